"""What is built for the length of a `with` block, and taken back in the end, or where a step of it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Built(ABC):
    """A context manager. What is made later belongs into `_stack`, and is taken back with the rest."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._build(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    @abstractmethod
    def _build(self, stack: ExitStack) -> None:
        """Build it; how each step is taken back goes onto `stack`."""
