"""`make demo` as the README promises it: readable output, free ports, no leftovers, two at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.template.rendering import REPOSITORY

pytestmark = pytest.mark.slow


def test_two_demos_at_the_same_time(tmp_path: Path) -> None:
    demos = [start_demo(tmp_path / name) for name in ("first", "second")]
    for demo in demos:
        output, _ = demo.communicate(timeout=400)
        assert demo.returncode == 0, output
        plain = output.replace(" ", "")
        for heard in (
            'answer<-{"plant":"basil","moisture":85}',
            'page<-{"type":"garden","data":{"event":"watered","plant":"basil","moisture":85}}',
            'answer<-{"receivers":1}',
            'answer<-{"plants":{"basil":95,"mint":55,"tomato":40},"thirsty":[]}',
            "exitcode0",
        ):
            assert heard in plain, output
    for name in ("first", "second"):
        assert list((tmp_path / name).iterdir()) == []


def start_demo(scratch: Path) -> subprocess.Popen[str]:
    scratch.mkdir()
    env = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "scripts.demo"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
