import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.splitting import sentences, split_text


def words(text: str) -> int:
    return len(text.split())


def test_sentences_end_at_stops_before_a_capital() -> None:
    text = "Il pleut. Viens-tu ? « Oui ! » Alors… 3 minutes. enfin, presque. Voilà"
    assert list(sentences(text)) == [
        *("Il pleut.", "Viens-tu ?", "« Oui ! »", "Alors…", "3 minutes. enfin, presque.", "Voilà"),
    ]


@pytest.mark.parametrize("text", ["M. Dupont et Mme. Martin", "J. R. R. Tolkien", "voir art. 5 et fig. 3", "St. Denis"])
def test_abbreviations_and_initials_end_no_sentence(text: str) -> None:
    assert list(sentences(text)) == [text]


def test_what_looks_like_a_line_end_ends_a_sentence() -> None:
    assert list(sentences("un\rdeux\u2028trois\x0bquatre")) == ["un", "deux", "trois", "quatre"]


def test_a_long_sentence_is_cut_after_a_comma() -> None:
    text = "un deux trois quatre, cinq six sept huit"
    assert split_text(text, words, 5) == ["un deux trois quatre,", "cinq six sept huit"]


def test_text_without_spaces_is_cut_anywhere() -> None:
    assert split_text("a" * 100, len, 30) == ["a" * 25] * 4


def test_short_text_is_left_alone() -> None:
    assert split_text("Bonjour.", words, 3) == ["Bonjour."]


@given(st.text(alphabet="aB é.,!?»« \u2028\r\t", min_size=1, max_size=200), st.integers(1, 12))
def test_nothing_is_lost_and_every_piece_fits(text: str, limit: int) -> None:
    pieces = split_text(text, len, limit)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece) <= limit for piece in pieces)


def test_any_long_text_is_split_in_linear_time() -> None:
    """Not quadratic: each of these would take hours if it were."""
    for text in ("." * 2**18, " " * 2**18 + "a", "! " * 2**17, "a" * 2**18, '." ' * 2**16):
        assert all(len(piece) <= 500 for piece in split_text(text, len, 500))
