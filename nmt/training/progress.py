"""How far a training has come."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Candidate:
    """Weights kept because their validation BLEU is among the best."""

    update: int
    bleu: float
    sha256: str = ""
    """Hash of its file."""


@dataclass
class Progress:
    """How far a run has come; all of it is needed to continue as if never stopped."""

    update: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of the epoch already used."""
    validated: int = 0
    """Update after which the last validation ran to its end."""
    misses: int = 0
    """Validations since the best one."""
    candidates: list[Candidate] = field(default_factory=list)
    """Best first."""
    target_tokens: int = 0
    skipped: int = 0
    """Updates refused because a gradient was not finite."""
    skipped_in_a_row: int = 0
    halved: int = 0
    """Updates whose batches were too large for the memory."""
    seconds: float = 0.0
    """Spent training and validating."""
    log_bytes: int = 0
    window: dict[str, Any] = field(default_factory=dict)
    """Sums since the last line of the log."""
    exported: float = -1.0
    """Validation BLEU of the model that lies in the model directory; -1 for none."""
    finished: bool = False

    @staticmethod
    def from_dict(document: dict[str, Any]) -> "Progress":
        """The inverse of `dataclasses.asdict`."""
        candidates = [Candidate(**candidate) for candidate in document["candidates"]]
        return Progress(**{**document, "candidates": candidates})

    def cost(self) -> dict[str, Any]:
        """What it took so far, as manifests have it."""
        return {
            "updates": self.update,
            "epochs": self.epoch,
            "target_tokens": self.target_tokens,
            "seconds": round(self.seconds, 1),
        }

    @property
    def best(self) -> Candidate | None:
        """The candidate with the highest BLEU so far."""
        return self.candidates[0] if self.candidates else None
