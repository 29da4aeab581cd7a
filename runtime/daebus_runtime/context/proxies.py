"""`request` and `response`: always those of the message being handled here.

Each is one object for the whole process that stands for another one in each handler: attributes, `isinstance`, `==`,
`dir`, `bool`, `hash`, copying and pickling are those of that object. Outside a handler attributes raise OutsideHandler,
`bool` is False and `==` is identity.
"""

from __future__ import annotations

import copy
from typing import Any

from gevent import getcurrent

from ..errors import OutsideHandler
from . import SLOT, current


class Here:
    """Leads each attribute to the object of the message being handled here."""

    __slots__ = ("_slot",)

    def __init__(self, slot: str) -> None:
        object.__setattr__(self, "_slot", slot)

    def __getattr__(self, name: str) -> Any:
        try:
            greenlet: Any = getcurrent()
            return getattr(getattr(greenlet.spawn_tree_locals[SLOT], self._slot), name)
        except (AttributeError, KeyError):
            return getattr(self._target(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._target(), name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # `isinstance` asks for it
        target = self._find()
        return Here if target is None else target.__class__

    def __repr__(self) -> str:
        return f"<{self._slot} of the message being handled>"

    def __dir__(self) -> list[str]:
        target = self._find()
        return [] if target is None else dir(target)

    def __bool__(self) -> bool:
        return bool(self._find())

    def __eq__(self, other: object) -> bool:
        target = self._find()
        if target is None or other is self:
            return other is self
        return bool(target == other)

    def __hash__(self) -> int:
        target = self._find()
        return object.__hash__(self) if target is None else hash(target)

    def __copy__(self) -> Any:
        return copy.copy(self._target())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._target(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._target().__reduce_ex__(protocol)

    def _find(self) -> Any:
        context = current()
        return None if context is None else getattr(context, self._slot)

    def _target(self) -> Any:
        target = self._find()
        if target is not None:
            return target
        if current() is None:
            text = f"`{self._slot}` can be used only while a message is handled: in a handler or what it calls"
        else:
            text = f"there is no `{self._slot}` here: nobody waits for an answer to what is handled now"
        raise OutsideHandler(text)


request: Any = Here("request")
response: Any = Here("response")
