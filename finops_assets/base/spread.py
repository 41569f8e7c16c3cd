"""Work in parts, done on other machines that see the same files under the same paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

Part = TypeVar("Part")
Found = TypeVar("Found")


class Spread(Protocol):
    """What gives parts of a piece of work to several machines."""

    least_bytes: int
    """What is smaller is done sooner here."""

    def __call__(self, work: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
        """What `work` gives of each part, in their order. A part may be done twice where a machine is lost on the way:
        `work` must leave nothing behind that a second go would not replace. Its error is raised here as it was there."""
