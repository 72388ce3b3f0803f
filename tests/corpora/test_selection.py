from nmt.corpora.base import Corpus, Reading
from nmt.corpora.filters import Leaks, Rules
from nmt.corpora.selection import Selection, explain

RULES = Rules(max_chars=1000, max_ratio=3.0, deduplicate=True)


class Numbers(Corpus):
    """So many pairs, made as they are asked for; every tenth is one that was there."""

    def __init__(self, count: int) -> None:
        super().__init__("numbers", Reading())
        self._count = count

    def place(self, number: int) -> str:
        return f"number {number}"

    def pairs(self):
        for i in range(self._count):
            self.read += 1
            number = i - i % 10 if i % 10 == 1 else i
            yield f"La phrase numéro {number}.", f"Sentence number {number}."


def select(selection: Selection, count: int) -> int:
    return sum(len(pairs) for pairs in selection.pairs(Numbers(count), warn=lambda message: None))


def test_counts_are_kept_for_each_corpus_and_for_all():
    selection = Selection(RULES, Leaks())
    assert select(selection, 10_000) == 9000
    assert select(selection, 20_000) == 9000
    assert [(part.kept, dict(part.dropped)["duplicate"]) for part in selection.parts] == [(9000, 1000), (9000, 11_000)]
    assert selection.read == 30_000
    assert selection.parts[1].facts()["dropped"] == {"duplicate": 11_000}
    assert explain(selection.parts[1].dropped) == "11000 exact duplicate"
