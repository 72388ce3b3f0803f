"""Loss and BLEU on the validation set, shared out among the ranks and added up once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import torch

from nmt.batching import length_batches, make_batch
from nmt.config import DecodingOptions
from nmt.dataset import DataDirectory
from nmt.engines.pytorch import TorchEngine
from nmt.errors import DataError, NMTError
from nmt.metrics.base import Score
from nmt.metrics.bleu import corpus_score
from nmt.models.interface import Seq2Seq
from nmt.training.ranks import Ranks
from nmt.training.step import batch_loss
from nmt.translator import Translator

VALIDATION_LINES: Final = 256
"""Lines translated between two looks at the stop signal."""

Item = TypeVar("Item")


class StoppedError(NMTError):
    """A stop was asked for while something ran that can be run again."""


class Validation:
    """The validation set of a data directory.

    Args:
        model: to validate, on its device.
        data: the data directory.
        batch_tokens: of a batch on its longer side, padding included.
        precision: of the loss; translations are made in fp32.
        ranks: who validates together.
        agreed_to_stop: whether any rank was asked to stop; asked by all ranks at once.

    Raises:
        DataError: there are no validation pairs.
    """

    def __init__(
        self,
        model: Seq2Seq[Any],
        data: DataDirectory,
        *,
        batch_tokens: int,
        precision: str,
        ranks: Ranks,
        agreed_to_stop: Callable[[], bool],
    ) -> None:
        self.model, self.tokenizers = model, data.tokenizers
        self.batch_tokens, self.precision = batch_tokens, precision
        self.ranks, self.agreed_to_stop = ranks, agreed_to_stop
        self.device = next(model.parameters()).device
        self.split = data.split("valid")
        if not len(self.split):
            raise DataError(f"{data.path} has no validation pairs")
        self.sources, self.refs = data.text("valid")

    def loss(self) -> tuple[float, int]:
        """Sum of negative log-likelihoods over the set, nats, and its target tokens."""
        split, total, tokens = self.split, 0.0, 0
        self.model.eval()
        lengths = 1 + torch.maximum(torch.as_tensor(split.src_lengths), torch.as_tensor(split.tgt_lengths)).numpy()
        with torch.inference_mode():
            for samples in self._share(length_batches(lengths, self.batch_tokens)):
                batch = make_batch(split, samples.tolist()).to(self.device)
                total += float(batch_loss(self.model, batch, 0.0, self.precision).nll)
                tokens += batch.target_tokens
        total, summed = self.ranks.sum(total, tokens)
        return total, int(summed)

    def bleu(self) -> Score:
        """BLEU of greedy translations, by the same path as `nmt eval` but that no line is given a second try."""
        self.model.eval()
        engine = TorchEngine(self.model, device=self.device)
        translator = Translator(engine, self.tokenizers, DecodingOptions(beam_size=1), retry=False)
        order = sorted(range(len(self.sources)), key=lambda i: len(self.sources[i]))
        found: list[tuple[int, str]] = []
        pieces = [order[start : start + VALIDATION_LINES] for start in range(0, len(order), VALIDATION_LINES)]
        for piece in self._share(pieces):
            translations = translator.translate([self.sources[i] for i in piece])
            found += [(i, translation.text) for i, translation in zip(piece, translations, strict=True)]
        hyps = dict(pair for part in self.ranks.gather(found) for pair in part)
        return corpus_score([hyps[i] for i in range(len(order))], self.refs)

    def _share(self, work: Sequence[Item]) -> Iterator[Item]:
        """This rank's part of some work; before each piece all ranks look whether one was asked to stop.

        Raises:
            StoppedError: on all ranks, if one was.
        """
        for start in range(0, len(work), self.ranks.size):
            if self.agreed_to_stop():
                raise StoppedError("stopped")
            yield from work[start : start + self.ranks.size][self.ranks.rank :][:1]
