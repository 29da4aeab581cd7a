"""A service, or any program, in a process of its own: its start, its output, its end; no child may be left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from .closing import Closing
from .orphans import die_with_parent, group_members, kill_group
from .waiting import wait_until


class ServiceProcess(Closing):
    """A program text (written to `directory`/`name`), a file, or a whole command, in a process group of its own.

    The environment is that of this process without `DAEBUS_*` variables, plus `env`; None removes a variable.
    `output` holds standard output and error together, in the order of their lines.
    """

    def __init__(
        self,
        program: str | Path | Sequence[str],
        *,
        directory: Path,
        env: Mapping[str, str | None] | None = None,
        arguments: Sequence[str] = (),
        name: str = "program.py",
        python: str | Path = sys.executable,
    ) -> None:
        if isinstance(program, str):
            file = directory / name
            # In one step: a process that was started from the same file a moment ago may not have read it yet.
            written = directory / f".{name}.{uuid.uuid4().hex}"
            written.write_text(textwrap.dedent(program))
            written.replace(file)
            command = [str(python), str(file)]
        elif isinstance(program, Path):
            command = [str(python), str(program)]
        else:
            command = list(program)
        self.command = [*command, *arguments]
        self._lines: list[str] = []
        self._ended = threading.Event()
        self.process = subprocess.Popen(
            die_with_parent(self.command),
            cwd=directory,
            env=self._environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"output of {self.pid}", daemon=True)
        self._reader.start()

    @staticmethod
    def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DAEBUS_")}
        wanted = kept | {"PYTHONUNBUFFERED": "1"} | dict(changes)
        return {key: value for key, value in wanted.items() if value is not None}

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._lines.append(line.rstrip("\n"))
        self._ended.set()

    # what it says

    @property
    def lines(self) -> list[str]:
        """The lines printed so far."""
        return list(self._lines)

    @property
    def output(self) -> str:
        return "\n".join(self._lines)

    def wait_line(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """Waits for a line that matches the regular expression, from the start of the output; the match.

        Fails at once when the process has ended without such a line.
        """
        expression = re.compile(pattern)
        seen = 0

        def find() -> re.Match[str] | None:
            nonlocal seen
            ended = self._ended.is_set()
            while seen < len(self._lines):
                seen += 1
                if match := expression.search(self._lines[seen - 1]):
                    return match
            if ended:
                with contextlib.suppress(subprocess.TimeoutExpired):  # the output ends a moment before the process
                    self.process.wait(5)
                raise AssertionError(f"ended ({self.process.poll()}) without a line with {pattern!r}:\n{self.output}")
            return None

        found = wait_until(find, timeout, lambda: f"a line with {pattern!r} in:\n{self.output}")
        assert found is not None
        return found

    def count(self, pattern: str) -> int:
        """How many lines so far match the regular expression."""
        return sum(bool(re.search(pattern, line)) for line in self._lines)

    # how it ends

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process, not to its group."""
        self.process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for the end of the process and of its output; the exit code. Fails after `timeout` seconds."""
        code = wait_until(
            lambda: None if self.process.poll() is None else (self.process.returncode,),
            timeout,
            lambda: f"the end of {self.command}. It said:\n{self.output}",
        )
        assert code is not None
        self._ended.wait(2)
        return int(code[0])

    def terminate(self, timeout: float = 30.0) -> int:
        """SIGTERM, then the exit code."""
        if self.running:
            self.process.terminate()
        return self.wait(timeout)

    def kill(self) -> None:
        """kill -9 of the process only; `close()` then checks what became of its children."""
        if self.running:
            self.process.kill()
            self.process.wait(timeout=10)

    def close(self) -> None:
        """Kills what still runs. Fails when the process had ended by itself but left processes of its group behind."""
        had_ended = not self.running
        left = [member for member in group_members(self.pid) if had_ended]
        kill_group(self.pid)
        self.process.wait(timeout=10)
        self._reader.join(2)
        assert not left, f"{self.command} ended and left behind: {', '.join(left)}\n{self.output}"
