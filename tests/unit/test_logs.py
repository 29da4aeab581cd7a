"""Log records: text lines for people, JSON for machines, and never more than one handler of ours."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
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
    direct_logger.handlers.clear()
    direct_logger.propagate = True
    for log, level in levels:
        log.setLevel(level)


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was logged, without the line that follows losses of an earlier test some seconds later."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if not line["message"].startswith("messages are no longer lost")]


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


def test_on_a_terminal_a_record_is_a_coloured_line_for_people() -> None:
    stream = Terminal()
    logs.configure("auto", "info", stream)
    direct_logger.warning("careful", extra={"plant": "fern"})
    assert "careful" in stream.getvalue()
    assert "plant=fern" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


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


def test_the_logger_adds_the_fields_of_the_message() -> None:
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


def test_a_field_cannot_replace_one_of_the_records_own() -> None:
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


HOSTILE = "7\n12:30:05.123 ERROR   forged\r\x1b[2J\x7f\x85\x9b31m\u2028\u202e\u200b\ufeff\ud800 level=critical"
SHOWN = r"7\n12:30:05.123 ERROR   forged\r\x1b[2J\x7f\x85\x9b31m\u2028\u202e\u200b\ufeff\ud800 level=critical"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_text_from_clients_can_neither_forge_a_line_nor_control_the_terminal(log_format: str) -> None:
    stream = io.StringIO()
    logs.configure(log_format, "info", stream)
    logs.bind(lambda: {"request_id": HOSTILE, HOSTILE: 1})
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("refused %s", HOSTILE, extra={"plant": HOSTILE, "list": [HOSTILE]}, stack_info=True)
    logging.getLogger(HOSTILE).warning(f"{HOSTILE}")
    written = stream.getvalue()
    assert all(character.isprintable() or character == "\n" for character in written)
    assert not [line for line in written.splitlines() if line.startswith("12:30:05.123")]
    assert "forged" in written


def test_control_characters_in_a_text_line_are_escaped_and_quoted() -> None:
    stream = io.StringIO()
    logs.configure("text", "info", stream)
    direct_logger.info("got %s", HOSTILE, extra={"request_id": HOSTILE, "empty": "", "quote": 'a"b', "plain": "a/b\\c"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(f'got {SHOWN}  request_id="{SHOWN}" empty="" quote="a\\"b" plain=a/b\\c')


def test_a_traceback_is_indented_below_its_line() -> None:
    stream = io.StringIO()
    logs.configure("text", "info", stream)
    try:
        raise ValueError("one\nERROR two")
    except ValueError:
        direct_logger.exception("it failed")
    first, *below = stream.getvalue().splitlines()
    assert first.endswith("it failed")
    assert below[0] == "  Traceback (most recent call last):"
    assert below[-2:] == ["  ValueError: one", "  ERROR two"]


def test_json_keeps_control_characters_as_they_were() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    text = HOSTILE.replace("\ud800", "\U000e0001")
    direct_logger.info(text, extra={"plant": text})
    (line,) = stream.getvalue().splitlines()
    assert (json.loads(line)["message"], json.loads(line)["plant"]) == (text, text)


def test_a_block_is_written_below_a_text_record_and_as_fields_in_json() -> None:
    block = {logs.BLOCK: {"bus": "redis://host", "http": "http://\n"}}
    text, lines = io.StringIO(), io.StringIO()
    logs.configure("text", "info", text)
    direct_logger.info("started", extra=block)
    logs.configure("json", "info", lines)
    direct_logger.info("started", extra=block)
    assert text.getvalue().splitlines()[1:] == ["  bus         redis://host", "  http        http://\\n"]
    assert records(lines)[0].items() >= {"message": "started", "bus": "redis://host"}.items()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_stream_that_is_not_utf_8_gets_escapes(encoding: str, log_format: str) -> None:
    raw = io.BytesIO()
    logs.configure(log_format, "info", io.TextIOWrapper(raw, encoding, errors="backslashreplace", write_through=True))
    direct_logger.info("größe € 😀", extra={"größe": "€"})
    written = raw.getvalue().decode(encoding)
    if log_format == "json":
        assert json.loads(written).items() >= {"message": "größe € 😀", "größe": "€"}.items()
    else:
        assert "INFO" in written


class Odd:
    pass


@dataclasses.dataclass
class Broken:
    value: int = dataclasses.field(init=False)


@pytest.mark.parametrize(
    "field",
    [{1: 2, "1": 3}, Odd(), Broken, [2**70], float("nan"), "\ud800"],
    ids=["keys", "odd", "broken", "huge", "nan", "surrogate"],
)
def test_a_record_is_written_whatever_its_fields_are(field: Any) -> None:
    for log_format in ("text", "json"):
        stream = io.StringIO()
        logs.configure(log_format, "info", stream)
        direct_logger.info("hello", extra={"field": field})
        assert "hello" in stream.getvalue()
    assert records(stream)[0]["message"] == "hello"


def test_a_field_named_daebus_of_another_library_does_no_harm() -> None:
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    direct_logger.info("hello", extra={"daebus": "text"})
    assert records(stream)[0]["message"] == "hello"


# --- beside the program's own logging ---------------------------------------------------------------------------------


PROGRAM = """
import logging, sys
from daebus import Daebus, direct_logger, logger
from daebus_runtime.logs import runtime_logger

BEFORE
app = Daebus("shop")

@app.on_start()
def begin():
    AFTER
    for log in (direct_logger, logger, runtime_logger, logging.getLogger("program")):
        log.warning("hello")
    app.stop()

app.run()
"""


def run(program: str, **variables: str) -> list[str]:
    """Run a program; the lines that it writes to standard output and error."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAEBUS_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**kept, **variables}, text=True, timeout=60, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("logging.basicConfig(level=logging.INFO)", "pass"),
        ("pass", "logging.basicConfig(level=logging.INFO, force=True)"),
    ],
    ids=["before", "forced after"],
)
def test_in_a_service_with_a_basic_config_of_its_own_each_record_is_shown_once(before: str, after: str) -> None:
    lines = run(PROGRAM.replace("BEFORE", before).replace("AFTER", after), DAEBUS_LOG_FORMAT="text")
    assert len([line for line in lines if "hello" in line]) == 4, lines
    assert len([line for line in lines if "service shop started" in line]) == 1, lines


def test_a_program_that_only_calls_finds_its_logging_as_it_was() -> None:
    lines = run("""
import logging
from daebus import DaebusCaller
from daebus_runtime.errors import BusError
from daebus_runtime.logs import runtime_logger

assert not logging.getLogger().handlers
assert not logging.getLogger("daebus").handlers
assert logging.getLogger("daebus").level == logging.NOTSET
logging.basicConfig(level=logging.INFO)
try:
    DaebusCaller("shop", redis_port=1).send_request("buy", timeout=0.2)
except (BusError, TimeoutError) as error:
    logging.error("hello %s", type(error).__name__)
runtime_logger.warning("hello")
assert len(logging.getLogger().handlers) == 1
assert not logging.getLogger("daebus").handlers
""")
    assert len([line for line in lines if "hello" in line]) == 2, lines
    assert len(lines) == len(set(lines))


def test_a_log_file_of_the_program_gets_every_record_too(monkeypatch: pytest.MonkeyPatch) -> None:
    console, kept = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", console)
    logging.getLogger().handlers[:] = [logging.StreamHandler(console), logging.StreamHandler(kept)]
    logs.configure("json", "info")
    direct_logger.info("hello")
    assert kept.getvalue() == "hello\n"
    assert len(console.getvalue().splitlines()) == 1


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


def test_a_service_does_not_import_what_only_commands_need() -> None:
    program = "import sys; from daebus import Daebus, DaebusHttp, DaebusWebSocket; print('click' in sys.modules)"
    assert run(program) == ["False"]
