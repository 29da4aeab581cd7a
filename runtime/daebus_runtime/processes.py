"""Child processes that the author's code starts in a service: `subprocess`, `os.popen`, `multiprocessing`, asyncio's.

gevent watches children only on the main loop, and its SIGCHLD handler reaps every child of the process, even those that
it does not watch. So gevent's `os.fork` and `subprocess` fail in OS threads (`blocking=True`, `native=True`), and the
unpatched ones would lose exit codes there. The solution: an OS thread starts a child with the unpatched functions while
the main loop is paused (milliseconds, for the fork). The main loop then watches the child from its first moment on.

A forked child is a copy of the whole service: its loop, its connections, its signal handlers. So a child that was
forked in a handler gets a new loop, in which nothing of the service runs, and the default signal handlers.
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

from . import native

HOLD_SECONDS = 5.0  # how long a thread waits for the main loop; after that the exit code may be lost
POLL_FIRST, POLL_MOST = 0.002, 0.05
_native = {
    name: monkey.get_original("os", name) for name in ("fork", "waitpid", "posix_spawn", "posix_spawnp", "close")
}
_NativePopen: Any = monkey.get_original("subprocess", "Popen")
_children: dict[int, int | None] = {}
"""Children started by OS threads and not waited for yet; the value is the exit status once a child has ended."""
_main: tuple[int, Any] = (0, None)
"""The process id of the service, and the loop of its main thread."""


def in_os_thread() -> bool:
    """Whether this runs in the service's process, but not in its main thread."""
    return native.get_ident() != MAIN_THREAD_IDENT and os.getpid() == _main[0]


def start(begin: Callable[[], int]) -> int:
    """Start a child in an OS thread; the main loop watches it. `begin` forks, and returns what `os.fork` returns."""
    ready, done, pid = native.make_lock(), native.make_lock(), 0
    ready.acquire()
    done.acquire()

    def hold() -> None:
        _main[1].install_sigchld()  # before a child exists that could end
        ready.release()
        done.acquire()
        if pid:
            _watch(pid)

    _main[1].run_callback_threadsafe(hold)
    ready.acquire(True, HOLD_SECONDS)
    try:
        pid = begin()
        if pid:
            _children[pid] = None  # before this thread can wait for it
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
    else:  # in a forked child, where no other code waits for children
        pid = _native["fork"]()
    if pid == 0:
        (_begin_anew if in_handler else patch_processes)()
    return pid


def _begin_anew() -> None:
    """In a child that was forked in a handler: create a new loop and restore the default signal handlers."""
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
    """`subprocess.Popen` in an OS thread: the unpatched class, but the exit code comes from the main loop."""

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


def close(fd: int) -> None:
    """`os.close`. gevent's version may leave closing to the next turn of the thread's loop, which may watch the file.

    Nothing can watch a directory, and `shutil.rmtree` in one turn would run out of descriptors. And in an OS thread the
    loop does not turn while the thread waits for the other end of a pipe.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode) or (stat.S_ISFIFO(mode) and native.get_ident() != MAIN_THREAD_IDENT):
        _native["close"](fd)
    else:
        gevent.os.close(fd)


def _cooperative(function: Callable[..., Any], wait: Callable[..., Any]) -> Callable[..., Any]:
    """Calls `wait(function, …)` in the service's process, and `function` alone in forked children."""

    def either(*args: Any, **kwargs: Any) -> Any:
        if os.getpid() == _main[0]:
            return wait(function, *args, **kwargs)
        return function(*args, **kwargs)

    return either


def _receive(receive: Callable[..., Any], connection: Any, size: int, *args: Any) -> Any:
    if size:  # an empty message is only a header
        gevent.socket.wait_read(connection._handle)
    return receive(connection, size, *args)


def _wait(wait: Callable[..., Any], things: Any, timeout: float | None = None) -> Any:
    deadline = None if timeout is None else time.monotonic() + timeout
    while not (ready := wait(things, 0)) and (deadline is None or time.monotonic() < deadline):
        gevent.sleep(POLL_FIRST)
    return ready


def _help_stuff_finish(finish: Callable[..., Any], queue: Any, *args: Any) -> Any:
    while not queue._rlock.acquire(False):  # a worker holds it until the pool's greenlet tells it to end
        gevent.sleep(POLL_FIRST)
    queue._rlock.release()
    return finish(queue, *args)


def _make_pools_cooperative() -> None:
    """multiprocessing's pools wait for their children in threads. Here these are greenlets of one thread, so they must
    wait without holding it. Done at the first fork, when the modules concerned are loaded."""
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
    """Call once per process after gevent's patching, and again in a worker that gunicorn has forked. Does nothing
    outside the main thread, because children can be watched only there."""
    global _main
    if native.get_ident() != MAIN_THREAD_IDENT:
        return
    _main = (os.getpid(), get_hub().loop)
    _children.clear()
    if os.fork is fork:
        return
    of_subprocess: Any = subprocess
    popen: Any = gevent.subprocess.Popen
    for name in ("posix_spawn", "posix_spawnp"):
        setattr(os, name, _either(name, getattr(os, name), _native[name]))
    fork_exec = _posixsubprocess.fork_exec
    of_subprocess._fork_exec = _posixsubprocess.fork_exec = _either("fork_exec", fork_exec, fork_exec)
    os.fork, os.waitpid, os.system = fork, waitpid, _system
    if hasattr(gevent.os, "close"):
        os.close = close
    popen.__new__ = _new_popen
