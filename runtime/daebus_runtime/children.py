"""Child processes that end together with this process, even when it is killed. Does not know which programs they run.

It must work with and without gevent's patches, and beside other code that waits for children (gevent, gunicorn's
master). Therefore it uses the system calls directly and polls, instead of handling SIGCHLD.
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

# Asks the kernel (PR_SET_PDEATHSIG) to signal this process when its parent ends, then executes the command. It is a
# Python of its own, because forking our process is unsafe: it may have many threads, and gevent patches fork.
BIND = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, int(sys.argv[2])); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.closerange(3, 65536); os.execvp(sys.argv[3], sys.argv[3:])"
)
# For kernels without that call: a shell that kills the command when its standard input, which we hold open, is closed.
GUARD = 'exec 3<&0; "$@" </dev/null 3<&- & child=$!; (read -r _ <&3; kill -9 $child) & exec 3<&-; wait $child'

_waitpid = monkey.get_original("os", "waitpid")
_posix_spawn = monkey.get_original("os", "posix_spawn")


class Child:
    """One process, in its own process group, so a Ctrl-C on the terminal reaches only its parent, which passes it on.

    command: program and arguments. death: the signal it gets when this process ends. output: a file descriptor for its
    output, instead of this process's. detached: its standard input is empty. Only a detached child can be made to end
    with this process where the kernel does not do it (not Linux, or not in the main thread).
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
        """Whether it is still running. Afterwards `exit_code` is set (negative: the number of the signal)."""
        if self._pid:
            try:
                pid, status = _waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:  # other code has already collected its exit code
                pid, status = self._pid, 0
            if pid:
                self._pid = 0
                self.exit_code = os.waitstatus_to_exitcode(status)
                self._let_go()
        return self._pid != 0

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Signal the process, or its whole process group. Does nothing once it has ended, nor in a fork."""
        if os.getpid() == self._owner and self.running:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self._pid, number)

    @property
    def owned(self) -> bool:
        """Whether the current process started it, and is not a fork of that process."""
        return os.getpid() == self._owner

    def _let_go(self) -> None:
        if self._line is not None:
            os.close(self._line)
            self._line = None


def _kernel_tells() -> bool:
    """Whether the kernel signals a child when we end. Only Linux does, when the *thread* that started the child ends;
    therefore only in the main thread."""
    return sys.platform.startswith("linux") and bool(sys.executable) and threading.get_native_id() == os.getpid()
