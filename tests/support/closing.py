"""A base class of objects that are closed at the end of a `with` block."""

from __future__ import annotations

from typing import Self


class Closing:
    """`with` yields the object itself; `close()` is called after the block, also after an exception."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
