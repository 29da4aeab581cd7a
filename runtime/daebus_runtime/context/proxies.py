"""`request` and `response`: proxies for the objects of the message being handled.

Each is one object per process, which forwards to a different object in each handler: attributes, `isinstance`, `==`,
`dir`, `bool`, `hash`, copying and pickling are those of that object. Outside a handler attributes raise OutsideHandler,
`bool` is False and `==` compares identity.
"""

from __future__ import annotations

import copy
from typing import Any

from gevent import getcurrent

from ..errors import OutsideHandler
from . import SLOT, current


class Here:
    """Forwards each attribute to the object of the message being handled. `slot`: the context's attribute with that
    object."""

    __slots__ = ("_slot",)

    def __init__(self, slot: str) -> None:
        object.__setattr__(self, "_slot", slot)

    def __getattribute__(self, name: str) -> Any:
        # Not `__getattr__`: Python would first search the name here and discard an AttributeError, at each access.
        greenlet: Any = getcurrent()
        try:
            target = getattr(greenlet.spawn_tree_locals[SLOT], _slot(self))
        except (AttributeError, KeyError, TypeError):
            target = None
        if target is not None:
            return getattr(target, name)
        if name.startswith("__") and hasattr(Here, name):  # used by `isinstance`, `copy` and `pickle`
            return object.__getattribute__(self, name)
        return getattr(_target(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_target(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_target(self), name)

    def __repr__(self) -> str:
        return f"<{_slot(self)} of the message being handled>"

    def __dir__(self) -> list[str]:
        target = _find(self)
        return [] if target is None else dir(target)

    def __bool__(self) -> bool:
        return bool(_find(self))

    def __eq__(self, other: object) -> bool:
        target = _find(self)
        if target is None or other is self:
            return other is self
        return bool(target == other)

    def __hash__(self) -> int:
        target = _find(self)
        return object.__hash__(self) if target is None else hash(target)

    def __copy__(self) -> Any:
        return copy.copy(_target(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(_target(self), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _target(self).__reduce_ex__(protocol)


_slot = vars(Here)["_slot"].__get__  # reads `self._slot` without `__getattribute__`


def _find(proxy: Here) -> Any:
    context = current()
    return None if context is None else getattr(context, _slot(proxy))


def _target(proxy: Here) -> Any:
    target = _find(proxy)
    if target is not None:
        return target
    slot = _slot(proxy)
    if current() is None:
        text = f"`{slot}` can be used only while a message is handled: in a handler or what it calls"
    else:
        text = f"there is no `{slot}` here: nobody waits for an answer to what is handled now"
    raise OutsideHandler(text)


request: Any = Here("request")
response: Any = Here("response")
