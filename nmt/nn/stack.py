"""A list of modules whose type is known."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Stack(nn.ModuleList, Generic[ModuleT]):
    """`nn.ModuleList` for the type checker's eyes: what comes out is what went in."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[ModuleT]:
            """Each module in turn."""
            ...

        def __getitem__(self, index: int) -> ModuleT:  # type: ignore[override]
            """One module."""
            ...
