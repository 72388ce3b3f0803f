"""Where the time goes: a stopwatch for the parts of a computation."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from nmt.bench.machine import synchronise


class Stopwatch:
    """Seconds by part; a part inside another is not counted to the outer one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block to the part `name`."""
        synchronise(self.device)
        self._inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronise(self.device)
            elapsed = time.perf_counter() - start
            self.seconds[name] += elapsed - self._inner.pop()
            self._inner[-1] += elapsed

    @contextmanager
    def watching(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Count every call of `owner.attribute` in the block to the part `name`."""
        real: Callable[..., Any] = getattr(owner, attribute)
        own = attribute in vars(owner)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return real(*args, **kwargs)

        setattr(owner, attribute, timed)
        try:
            yield
        finally:
            if own:
                setattr(owner, attribute, real)
            else:
                delattr(owner, attribute)
