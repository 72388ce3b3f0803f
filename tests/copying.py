"""A tokenizer of real text and a model that copies its source: what goes in must come out, in place."""

from functools import cache

from nmt.special import EOS
from nmt.tokenizer import Tokenizer, TokenizerPair, train_tokenizer
from tests.decoding.table import Prefix, TableModel

TEXT = [
    "Où est la gare ?",
    "Le chat dort sur le canapé, et la pluie tombe.",
    "Je n'ai pas encore lu ce livre.",
    "Combien coûtent ces deux billets ?",
    "Nous partirons demain matin à huit heures.",
    "Elle a dit qu'elle viendrait.",
]


@cache
def tokenizers() -> TokenizerPair:
    tokenizer = Tokenizer(train_tokenizer(TEXT * 3, vocab_size=330, shrink=True))
    return TokenizerPair(tokenizer, tokenizer)


def copying_model(*, echo: int = 1) -> TableModel:
    """Gives each source token with probability 0.9, `echo` times over."""
    size = tokenizers().source.vocab_size

    def distribution(prefix: Prefix, source: Prefix) -> list[float]:
        wanted = dict(enumerate(source[:-1] * echo)).get(len(prefix), EOS)
        probabilities = [0.1 / (size - 1)] * size
        probabilities[wanted] = 0.9
        return probabilities

    return TableModel(distribution, lambda prefix, source: [1 / len(source)] * len(source))


def never_called(*_: object) -> list[float]:
    raise AssertionError("the model was asked")
