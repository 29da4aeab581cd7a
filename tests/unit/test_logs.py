"""Log records: lines for people, JSON for machines, and one handler of ours whatever happens."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import daebus_runtime.app  # noqa: F401 (as in a service: it gives logging locks that OS threads can share)
import pytest
from daebus_runtime import logs
from daebus_runtime.logs import direct_logger, logger, runtime_logger
from gevent.threadpool import ThreadPool


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("NO_COLOR", raising=False)
    root, levels = logging.getLogger(), [(log, log.level) for log in (direct_logger, logging.getLogger("apscheduler"))]
    handlers, about = list(root.handlers), logs._about
    yield
    root.handlers[:] = handlers
    logs.bind(about)
    for log, level in levels:
        log.setLevel(level)


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_away_from_a_terminal_a_record_is_one_json_line() -> None:
    stream = io.StringIO()
    logs.configure("auto", "info", stream)
    direct_logger.info("hello %s", "world", extra={"plant": "fern"})
    (record,) = records(stream)
    assert record["message"] == "hello world"
    assert record["level"] == "info"
    assert record["logger"] == "daebus"
    assert record["plant"] == "fern"
    assert record["time"].endswith("+00:00")
    assert logs.is_json()


def test_on_a_terminal_a_record_is_a_coloured_line_for_people() -> None:
    stream = Terminal()
    logs.configure("auto", "info", stream)
    direct_logger.warning("careful", extra={"plant": "fern"})
    assert "careful" in stream.getvalue()
    assert "plant=fern" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()
    assert not logs.is_json()


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    logs.configure("auto", "info", stream)
    direct_logger.warning("careful")
    assert "\x1b[" not in stream.getvalue()


def test_text_can_be_asked_for_away_from_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure("text", "info", stream)
    direct_logger.info("hello")
    assert stream.getvalue().rstrip().endswith("INFO    hello")


def test_less_severe_records_are_left_out() -> None:
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    direct_logger.info("no")
    runtime_logger.warning("yes")
    assert [record["message"] for record in records(stream)] == ["yes"]


def test_the_logger_adds_what_is_known_of_the_message() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logs.bind(lambda: {"service": "garden", "request_id": "7", "trace_id": "abc"})
    logger.info("with", extra={"plant": "fern"})
    direct_logger.info("without")
    with_context, without = records(stream)
    assert with_context.items() >= {"service": "garden", "request_id": "7", "trace_id": "abc", "plant": "fern"}.items()
    assert "service" not in without


def test_an_exception_is_part_of_its_record() -> None:
    for log_format in ("json", "text"):
        stream = io.StringIO()
        logs.configure(log_format, "info", stream)
        try:
            raise ValueError("broken")
        except ValueError:
            direct_logger.exception("it failed")
        assert "ValueError: broken" in stream.getvalue()
        assert "it failed" in stream.getvalue()


def test_a_field_does_not_pass_for_the_records_own() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    direct_logger.info("true", extra={"level": "critical", "time": "never", "logger": "other"})
    (record,) = records(stream)
    assert (record["level"], record["logger"]) == ("info", "daebus")
    assert record["time"] != "never"


def test_a_field_without_json_form_is_written_as_text() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    direct_logger.info("hello", extra={"what": object()})
    assert records(stream)[0]["what"].startswith("<object object")


def test_configuring_twice_writes_once_and_leaves_other_handlers_alone() -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    stream = io.StringIO()
    logs.configure("json", "info", io.StringIO())
    logs.configure("json", "info", stream)
    direct_logger.info("once")
    assert len(records(stream)) == 1
    assert other in logging.getLogger().handlers


def test_records_from_many_threads_stay_whole_lines() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)

    def write(name: str) -> None:
        for number in range(50):
            direct_logger.info("%s %d", name, number)

    pool = ThreadPool(8)  # of OS threads
    pool.map(write, [f"t{n}" for n in range(8)])
    pool.kill()
    assert len({record["message"] for record in records(stream)}) == 400
