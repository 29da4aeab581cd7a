"""A stage for each block of a page that is run. A driver's failed assertion is shown with its values, as in a test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import Block
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer

if TYPE_CHECKING:
    from tests.docs.stage import Stage


@pytest.fixture
def make_stage(
    tmp_path: Path, shared_redis: RedisServer, start_process: Callable[..., ServiceProcess]
) -> Iterator[Callable[[Block], Stage]]:
    """A function that creates the stage of a block; all stages are closed at the end."""
    from tests.docs.stage import Stage  # imported here, after pytest was told to rewrite its assertions

    with contextlib.ExitStack() as stack:

        def make(block: Block) -> Stage:
            return stack.enter_context(contextlib.closing(Stage(block, tmp_path, shared_redis, start_process)))

        yield make
