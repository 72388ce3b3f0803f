"""What is trained, and how long."""

import typing
from dataclasses import dataclass, replace
from typing import Literal

from nmt.config import ScopeName, ScoreName

Group = Literal["ladder", "score", "scope", "placement"]
BASELINE = "attention-1"
"""What the members of the family are measured against: additive, global, before the cell."""


@dataclass(frozen=True)
class Run:
    """One model."""

    name: str
    group: Group
    arch: str
    seed: int = 1
    settings: tuple[str, ...] = ()
    """What it has otherwise than its preset."""


@dataclass(frozen=True)
class Plan:
    """All models, and what they have in common."""

    preset: str
    updates: int
    settings: tuple[str, ...]
    runs: tuple[Run, ...]
    beams: tuple[int, ...] = (1, 5, 10)
    lengths: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Tokens a sentence at which time and memory are measured."""
    timed_updates: int = 10

    @property
    def has_ladder(self) -> bool:
        """Whether all three generations are there to be compared."""
        return len({run.arch for run in self.runs}) == 3

    @property
    def has_family(self) -> bool:
        """Whether there are members of the family to be compared with the baseline."""
        return any(run.group != "ladder" for run in self.runs)

    def part(self, name: Literal["ladder", "family"]) -> "Plan":
        """Only the ladder, or only the family and its baseline: each a study of its own, of some two hours."""
        kept = [run for run in self.runs if (run.group == "ladder") == (name == "ladder") or run.name == BASELINE]
        return replace(self, runs=tuple(kept))


def full_plan() -> Plan:
    """The ladder with three seeds, every score, scope and placement with one: some hours."""
    common = ("batch_tokens=1536", "eval_every=500", "save_every=500", "log_every=50", "threads=1")
    return Plan("small", 2000, common, (*_ladder((1, 2, 3)), *_family()))


def quick_plan() -> Plan:
    """The ladder and some of the family, tiny: minutes, to see that it works; its findings mean little."""
    common = ("batch_tokens=1024", "eval_every=150", "save_every=150", "log_every=25", "threads=1")
    kept = {"score-dot", "scope-local-p", "placement-after"}
    runs = (*_ladder((1,)), *(run for run in _family() if run.name in kept))
    return Plan("tiny", 300, common, runs, beams=(1, 5), lengths=(8, 32), timed_updates=3)


def _ladder(seeds: tuple[int, ...]) -> tuple[Run, ...]:
    """Seed by seed: the first already tells what the others confirm.

    So few updates do not go twice through the data: the Transformer needs less dropout than `small` has.
    """
    settings = {"gru": (), "attention": (), "transformer": ("dropout=0.1",)}
    return tuple(Run(f"{arch}-{seed}", "ladder", arch, seed, own) for seed in seeds for arch, own in settings.items())


def _family() -> tuple[Run, ...]:
    scores = [name for name in typing.get_args(ScoreName) if name != "additive"]
    scopes = [name for name in typing.get_args(ScopeName) if name != "global"]
    return (
        *(Run(f"score-{name}", "score", "attention", settings=(f"score={name}",)) for name in scores),
        *(Run(f"scope-{name}", "scope", "attention", settings=(f"scope={name}",)) for name in scopes),
        Run("placement-after", "placement", "attention", settings=("placement=after",)),
        Run("placement-feeding", "placement", "attention", settings=("placement=after", "input_feeding=true")),
    )
