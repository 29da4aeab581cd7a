"""Processes that are started here and end with this one, even when it is killed. What they are is not known here.

It works in patched and unpatched programs alike, and beside whoever else waits for children (gevent, gunicorn's
master): so it takes the system's own calls, and asks instead of being told.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from gevent import monkey

# Asks the kernel (PR_SET_PDEATHSIG) to signal this process when its parent ends, and becomes the command. Not done in a
# fork of our own process, which may have many threads and gevent's hands on fork.
BIND = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, int(sys.argv[2])); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.closerange(3, 65536); os.execvp(sys.argv[3], sys.argv[3:])"
)
# Where the kernel does not do it: a shell that kills the command once its own standard input, held open by us, ends.
GUARD = 'exec 3<&0; "$@" </dev/null 3<&- & child=$!; (read -r _ <&3; kill -9 $child) & exec 3<&-; wait $child'

_waitpid = monkey.get_original("os", "waitpid")
_posix_spawn = monkey.get_original("os", "posix_spawn")


class Child:
    """One process, in a process group of its own: a Ctrl-C on the terminal reaches it through its parent only.

    command: program and arguments. death: the signal it gets when this process ends. output: a file descriptor for what
    it prints, instead of this process's. detached: its standard input is empty; only then can it be guarded where the
    kernel offers nothing (not Linux, or not in the main thread).
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        death: signal.Signals,
        environ: dict[str, str] | None = None,
        output: int | None = None,
        detached: bool = False,
    ) -> None:
        self._owner = os.getpid()
        self._line: int | None = None
        self._pid = 0
        self.exit_code: int | None = None
        files: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_DUP2, output, n) for n in (1, 2) if output is not None]
        command = list(command)
        end = None
        if _kernel_tells():
            command = [sys.executable, "-I", "-S", "-c", BIND, str(self._owner), str(int(death)), *command]
        elif detached:
            end, self._line = os.pipe()
            command = ["/bin/sh", "-c", GUARD, "daebus-guard", *command]
        if end is not None:
            files.append((os.POSIX_SPAWN_DUP2, end, 0))
        elif detached:
            files.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
        try:
            self._pid = _posix_spawn(command[0], command, environ or os.environ, file_actions=files, setpgroup=0)
        finally:
            if end is not None:
                os.close(end)

    @property
    def running(self) -> bool:
        """Whether it has not ended; once it has, `exit_code` says how (negative: a signal's number)."""
        if self._pid:
            try:
                pid, status = _waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it, and knows how it ended
                pid, status = self._pid, 0
            if pid:
                self._pid = 0
                self.exit_code = os.waitstatus_to_exitcode(status)
                self._let_go()
        return self._pid != 0

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal it, or it and all that it started. Does nothing when it has ended, or in a fork of its parent."""
        if os.getpid() == self._owner and self.running:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self._pid, number)

    @property
    def owned(self) -> bool:
        """Whether this process is the one that started it, and no fork of it."""
        return os.getpid() == self._owner

    def _let_go(self) -> None:
        if self._line is not None:
            os.close(self._line)
            self._line = None


def _kernel_tells() -> bool:
    """Whether the kernel tells a child of our end: on Linux, where it means the *thread's* end, so in the main one."""
    return sys.platform.startswith("linux") and bool(sys.executable) and threading.get_native_id() == os.getpid()
