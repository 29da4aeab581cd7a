"""What is used in a `with` block and closed at its end."""

from __future__ import annotations

from typing import Self


class Closing:
    """`with` gives the object itself; whatever happens in the block, `close()` is called after it."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
