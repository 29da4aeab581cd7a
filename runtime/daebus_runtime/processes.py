"""Child processes that an author's code starts in a service: `subprocess`, `os.popen`, `multiprocessing`, asyncio's.

gevent watches children through the main loop only, and its SIGCHLD handler reaps every child of the process, also those
that it does not watch. So its `os.fork` and `subprocess` fail in OS threads (`blocking=True`, `native=True`), and the
system's own would lose exit codes there. Here an OS thread starts a child by the system's means while the main loop is
held, for the milliseconds of a fork, and the main loop watches the child from its first moment on.

A fork has the whole service in it: its loop, its connections, its signal handlers. So a child that was forked in a
handler gets a loop of its own, in which nothing of the service runs, and the usual signals end it.
"""

from __future__ import annotations

import _posixsubprocess
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.subprocess
from gevent import get_hub, getcurrent, monkey
from gevent._hub_local import set_hub
from gevent.hub import MAIN_THREAD_IDENT, Hub  # type: ignore[attr-defined]

HOLD_SECONDS = 5.0  # for how long a thread waits for the main loop; then the exit code may be lost
POLL_FIRST, POLL_MOST = 0.002, 0.05
_ident = monkey.get_original("_thread", "get_ident")
_lock = monkey.get_original("_thread", "allocate_lock")
_native = {
    name: monkey.get_original("os", name) for name in ("fork", "waitpid", "posix_spawn", "posix_spawnp", "close")
}
_NativePopen: Any = monkey.get_original("subprocess", "Popen")
_children: dict[int, int | None] = {}
"""The children of OS threads that nobody has waited for yet: the status of those that have ended."""
_main: tuple[int, Any] = (0, None)
"""The service's process, and the loop of its main thread."""


def in_os_thread() -> bool:
    """Whether this is the service's process, and not its main thread."""
    return _ident() != MAIN_THREAD_IDENT and os.getpid() == _main[0]


def start(begin: Callable[[], int]) -> int:
    """Start a child in an OS thread; the main loop watches it. `begin` forks and returns the child's id, 0 in it."""
    ready, done, pid = _lock(), _lock(), 0
    ready.acquire()
    done.acquire()

    def hold() -> None:
        _main[1].install_sigchld()  # before there is a child that could end
        ready.release()
        done.acquire()
        if pid:
            _watch(pid)

    _main[1].run_callback_threadsafe(hold)
    ready.acquire(True, HOLD_SECONDS)
    try:
        pid = begin()
        if pid:
            _children[pid] = None  # before this thread can ask for it
    finally:
        done.release()
    return pid


def _watch(pid: int) -> None:
    watcher = _main[1].child(pid)

    def ended() -> None:
        _children[pid] = watcher.rstatus
        watcher.stop()
        watcher.close()

    watcher.start(ended)


def waitpid(pid: int, options: int) -> tuple[int, int]:
    """`os.waitpid`, in any thread, for children of any thread."""
    pause = POLL_FIRST
    while pid in _children:
        status = _children[pid]
        if status is not None:
            del _children[pid]
            return pid, status
        if options & os.WNOHANG:
            return 0, 0
        gevent.sleep(pause)
        pause = min(pause * 2, POLL_MOST)
    if in_os_thread():
        result: tuple[int, int] = _native["waitpid"](pid, options)
        return result
    return gevent.os.waitpid(pid, options)


def fork() -> int:
    """`os.fork`, in any thread."""
    _make_pools_cooperative()
    in_handler = in_os_thread() or isinstance(getcurrent().parent, Hub)
    if in_os_thread():
        pid = start(_native["fork"])
    elif os.getpid() == _main[0]:
        pid = gevent.os.fork_and_watch()
    else:  # a child of our own, whose children nobody else waits for
        pid = _native["fork"]()
    if pid == 0:
        (_begin_anew if in_handler else patch_processes)()
    return pid


def _begin_anew() -> None:
    """In a child that was forked in a handler: a loop of its own, and signals that end it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    set_hub(Hub(default=False))


def _either(name: str, of_gevent: Any, native: Any) -> Callable[..., int]:
    def spawn(*args: Any, **kwargs: Any) -> int:
        if in_os_thread():
            return start(lambda: native(*args, **kwargs))
        return of_gevent(*args, **kwargs)  # type: ignore[no-any-return]

    spawn.__name__ = name
    return spawn


class ThreadPopen(_NativePopen):  # type: ignore[misc]
    """`subprocess.Popen` in an OS thread: the system's own, with the exit code from the main loop."""

    def _internal_poll(self, *args: Any, **kwargs: Any) -> Any:
        if self.returncode is None:
            pid, status = waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self._handle_exitstatus(status)
        return self.returncode

    def wait(self, timeout: float | None = None, _raise_exc: bool = True) -> Any:
        # gevent's `subprocess.call` passes the second argument.
        try:
            return super().wait(timeout)
        except subprocess.TimeoutExpired:
            if _raise_exc:
                raise
            return None


def _new_popen(cls: Any, *args: Any, **kwargs: Any) -> Any:
    if cls is gevent.subprocess.Popen and in_os_thread():
        return ThreadPopen(*args, **kwargs)
    return object.__new__(cls)


def _system(command: Any) -> int:
    if not in_os_thread():
        return _original_system(command)
    code = subprocess.call(command, shell=True)
    return code << 8 if code >= 0 else -code


def _close(fd: int) -> None:
    """`os.close`. gevent's may leave it to the thread's loop, which does not turn while the thread waits for the other
    end of the pipe."""
    if _ident() != MAIN_THREAD_IDENT and stat.S_ISFIFO(os.fstat(fd).st_mode):
        _native["close"](fd)
    else:
        gevent.os.close(fd)


def _cooperative(function: Callable[..., Any], wait: Callable[..., Any]) -> Callable[..., Any]:
    """`function` after `wait`, in the service's process; its children only have themselves to wait for."""

    def either(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() == _main[0]:
            return wait(function, *args, **kwargs)
        return function(*args, **kwargs)

    return either


def _receive(receive: Callable[..., Any], connection: Any, size: int, *args: Any) -> Any:
    if size:  # nothing follows the header of an empty message
        gevent.socket.wait_read(connection._handle)
    return receive(connection, size, *args)


def _wait(wait: Callable[..., Any], things: Any, timeout: float | None = None) -> Any:
    deadline = None if timeout is None else time.monotonic() + timeout
    while not (ready := wait(things, 0)) and (deadline is None or time.monotonic() < deadline):
        gevent.sleep(POLL_FIRST)
    return ready


def _help_stuff_finish(finish: Callable[..., Any], queue: Any, *args: Any) -> Any:
    while not queue._rlock.acquire(False):  # a worker has it until the pool's own greenlet has told it to end
        gevent.sleep(POLL_FIRST)
    queue._rlock.release()
    return finish(queue, *args)


def _make_pools_cooperative() -> None:
    """multiprocessing's pools wait for their children in threads, which are greenlets of one thread here: have each
    wait without holding that thread. Done at the first fork, when the modules that need it are loaded."""
    connection: Any = sys.modules.get("multiprocessing.connection")
    if connection is not None and not hasattr(connection.Connection, "waits"):
        connection.Connection.waits = True
        connection.Connection._recv = _cooperative(connection.Connection._recv, _receive)
        connection.wait = _cooperative(connection.wait, _wait)
    pool: Any = getattr(sys.modules.get("multiprocessing.pool"), "Pool", None)
    if pool is not None and not hasattr(pool, "waits"):
        pool.waits = True
        pool._help_stuff_finish = staticmethod(_cooperative(pool._help_stuff_finish, _help_stuff_finish))


_original_system = os.system


def patch_processes() -> None:
    """Once per process, after gevent has patched it; again in a worker that gunicorn has forked. Elsewhere than in the
    main thread it does nothing: only there children can be watched."""
    global _main
    if _ident() != MAIN_THREAD_IDENT:
        return
    _main = (os.getpid(), get_hub().loop)
    _children.clear()
    if os.fork is fork:
        return
    of_subprocess: Any = subprocess
    popen: Any = gevent.subprocess.Popen
    for name in ("posix_spawn", "posix_spawnp"):
        setattr(os, name, _either(name, getattr(os, name), _native[name]))
    native = _posixsubprocess.fork_exec
    of_subprocess._fork_exec = _posixsubprocess.fork_exec = _either("fork_exec", native, native)
    os.fork, os.waitpid, os.system = fork, waitpid, _system
    if hasattr(gevent.os, "close"):
        os.close = _close
    popen.__new__ = _new_popen
