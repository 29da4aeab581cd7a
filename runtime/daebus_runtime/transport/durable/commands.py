"""The commands of `request.commit`: taken out of a redis-py pipeline, and checked before the handler goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NO_SCRIPT = b"noscript"
MOST_WORDS = 7000  # Lua passes not many more to one command


def taken(pipe: Any) -> list[list[bytes]]:
    """The commands of a pipeline, encoded; the pipeline is empty then. ValueError if it cannot be committed."""
    stack = getattr(pipe, "command_stack", None)
    if stack is None:
        raise TypeError(f"request.commit takes a pipeline of `cache`, not {type(pipe).__name__}")
    if getattr(pipe, "watching", False):
        raise ValueError("a pipeline with WATCH cannot be committed: its commands run later, with the outcome")
    encode = pipe.connection_pool.get_encoder().encode
    commands = [[encode(word) for word in _words(command)] for command in stack]
    pipe.reset()
    return commands


def _words(command: Any) -> list[Any]:
    args = list(command[0] if isinstance(command, tuple) else command.args)
    return [*str(args[0]).split(" "), *args[1:]]


def refusal(commands: Sequence[Sequence[bytes]], known: Sequence[Any]) -> str:
    """Why the commands cannot run in a script; empty if they can. known: the server's COMMAND INFO of each."""
    for command, info in zip(commands, known, strict=True):
        name = command[0].decode(errors="replace")
        if not info:
            return f"the bus knows no command {name}"
        arity, flags = int(info[1]), info[2]
        if NO_SCRIPT in {bytes(flag) if not isinstance(flag, str) else flag.encode() for flag in flags}:
            return f"{name} cannot run in one step with the outcome"
        if len(command) != arity if arity > 0 else len(command) < -arity:
            return f"wrong number of arguments for {name}"
        if len(command) > MOST_WORDS:
            return f"{name} has {len(command)} words, more than {MOST_WORDS}; use several commands"
    return ""
