"""What is trained, and how long."""

import typing
from dataclasses import dataclass, replace
from typing import Final, Literal

from nmt.config import ScopeName, ScoreName

Part = Literal["ladder", "family"]
BASELINES: Final[dict[Part, str]] = {"ladder": "attention", "family": "score-additive"}
"""What the others of a part are measured against; that of the family is additive, global, before the cell."""


@dataclass(frozen=True)
class Run:
    """One model."""

    variant: str
    """What it is, whatever its seed."""
    part: Part
    arch: str
    seed: int
    preset: str
    updates: int
    settings: tuple[str, ...] = ()
    """What it has otherwise than its preset."""

    @property
    def name(self) -> str:
        """Of its directory."""
        return f"{self.variant}-{self.seed}"

    @property
    def attends(self) -> bool:
        """Whether it has attention to be compared with gold alignments."""
        return self.arch != "gru"


@dataclass(frozen=True)
class Plan:
    """All models, and what they have in common."""

    settings: tuple[str, ...]
    runs: tuple[Run, ...]
    beam: int = 5
    """Of every comparison."""
    beams: tuple[int, ...] = (1, 5, 10)
    """Of the ladder."""
    lengths: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Tokens a sentence at which time and memory are measured."""
    timed_updates: int = 10

    def beams_of(self, run: Run) -> tuple[int, ...]:
        """With which a run translates."""
        return self.beams if run.part == "ladder" else (self.beam,)

    @property
    def timed(self) -> tuple[Run, ...]:
        """One of each rung of the ladder."""
        return tuple(run for run in self.runs if run.part == "ladder" and run.seed == 1)

    def of(self, part: Part) -> "Plan":
        """Only the ladder, or only the family: each a study of its own."""
        return replace(self, runs=tuple(run for run in self.runs if run.part == part))


def full_plan() -> Plan:
    """The ladder, and every score, scope and placement; three seeds of each: some hours.

    The members of the family are many, so smaller, and trained for less long.
    """
    common = ("batch_tokens=1536", "eval_every=500", "save_every=500", "log_every=50", "threads=1")
    return Plan(common, (*_ladder((1, 2, 3), "small", 2000), *_family((1, 2, 3), 1200)))


def quick_plan() -> Plan:
    """The ladder and some of the family, tiny: minutes, to see that it works; its findings mean little."""
    common = ("batch_tokens=1024", "eval_every=150", "save_every=150", "log_every=25", "threads=1")
    kept = {"score-additive", "score-dot", "scope-local-p", "placement-after"}
    runs = (*_ladder((1,), "tiny", 300), *(run for run in _family((1,), 300) if run.variant in kept))
    return Plan(common, runs, beams=(1, 5), lengths=(8, 32), timed_updates=3)


def _ladder(seeds: tuple[int, ...], preset: str, updates: int) -> tuple[Run, ...]:
    """Seed by seed: the first already tells what the others confirm.

    So few updates do not go twice through the data: the Transformer needs less dropout than `small` has.
    """
    settings = {"gru": (), "attention": (), "transformer": ("dropout=0.1",)}
    return tuple(
        Run(arch, "ladder", arch, seed, preset, updates, own) for seed in seeds for arch, own in settings.items()
    )


def _family(seeds: tuple[int, ...], updates: int) -> tuple[Run, ...]:
    members: dict[str, tuple[str, ...]] = {
        **{f"score-{name}": (f"score={name}",) for name in typing.get_args(ScoreName)},
        **{f"scope-{name}": (f"scope={name}",) for name in typing.get_args(ScopeName) if name != "global"},
        "placement-after": ("placement=after",),
        "placement-feeding": ("placement=after", "input_feeding=true"),
    }
    return tuple(
        Run(variant, "family", "attention", seed, "tiny", updates, settings)
        for seed in seeds
        for variant, settings in members.items()
    )
