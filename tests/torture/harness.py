"""What a harness is: it runs until its time or its cases are used up, and counts."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Budget:
    """Seconds and cases a harness may use; it always does at least a few cases."""

    seconds: float
    cases: int
    least: int = 3
    begun: float = field(default_factory=time.monotonic)

    def __iter__(self) -> Iterator[int]:
        """Case numbers, as long as there is time."""
        for case in range(self.cases):
            if case >= self.least and time.monotonic() - self.begun > self.seconds:
                return
            yield case


@dataclass
class Findings:
    """What came of a harness."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, message: str) -> None:
        """Note a failure unless something holds."""
        if not holds:
            self.failures.append(message)


@dataclass(frozen=True)
class Harness:
    """A promise, how it is tried, and a bug that breaks it."""

    name: str
    promise: str
    run: Callable[[Budget, Path], Findings]
    planted: Callable[[], AbstractContextManager[object]]
    """In its block, the program has the bug."""
    share: float = 1.0
    """Of the time, relative to the others."""
    cases: int = 10**9
    """All there are to try."""
