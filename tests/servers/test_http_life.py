"""Request ids, the trace, the time limit of handlers and their errors, seen from outside."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.servers.conftest import Service
from tests.servers.raw import Answer, RawConnection, RawWebSocket, ask
from tests.support.waiting import wait_until

PROGRAM = """
    import time
    import gevent
    from daebus_runtime import Daebus, DaebusCaller, DaebusHttp, DaebusWebSocket, logger, request
    from daebus_runtime.errors import CallTimeout

    app = Daebus("life")
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    @app.route("/seen", methods=["GET", "POST"])
    def seen(req):
        logger.info("seen")
        return {"id": req.request_id, "onward": req.onward_headers, "left": req.seconds_left}

    @app.route("/own-id")
    def own_id(req):
        return "x", 200, {"X-Request-ID": "mine"}

    @app.route("/fails")
    def fails(req):
        raise ValueError("password: hunter2")

    @app.route("/sleep/<seconds>")
    def sleep(req, seconds):
        time.sleep(float(seconds))
        return req.seconds_left

    @app.route("/finally", timeout=0.2)
    def finally_(req):
        try:
            time.sleep(60)
        finally:
            print("cleaned up", flush=True)

    @app.route("/long", timeout=0)
    def long(req):
        time.sleep(0.6)
        return req.seconds_left

    @app.route("/thread", blocking=True, timeout=0.2)
    def thread(req):
        time.sleep(0.6)
        print("thread ended", flush=True)

    @app.route("/own-timeout")
    def own_timeout(req):
        with gevent.Timeout(0.05):
            time.sleep(60)

    @app.action("trace")
    def trace():
        return {"traceparent": request.raw.get("traceparent"), "tracestate": request.raw.get("tracestate")}

    @app.action("never")
    def never():
        time.sleep(1.5)
        return {}

    @app.route("/nested")
    def nested(req):
        return DaebusCaller("life").send_request("trace")

    @app.route("/nested-late")
    def nested_late(req):
        DaebusCaller("life").send_request("never", timeout=60)

    @app.route("/nested-thread", blocking=True)
    def nested_thread(req):
        begun = time.monotonic()
        try:
            DaebusCaller("life").send_request("never", timeout=60)
        except CallTimeout:
            print(f"nested call ended after {time.monotonic() - begun:.1f}", flush=True)
            raise

    @app.route("/nested-too-late", blocking=True)
    def nested_too_late(req):
        time.sleep(0.6)
        try:
            DaebusCaller("life").send_request("trace")
        except CallTimeout as error:
            print(error, flush=True)

    app.run()
"""
ENVIRONMENT = {"DAEBUS_REQUEST_SECONDS": "0.5", "DAEBUS_LOG_FORMAT": "json", "DAEBUS_EMBEDDED": "always"}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_request_without_an_id_gets_one(service: Service) -> None:
    answers = [ask(service.port, "GET", "/seen") for _ in range(3)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids == [answer.json["id"] for answer in answers]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


GOOD_IDS = ("a", "x" * 128, "8c0c5f5e-1d8c-4b67-9d7b-2b4b0e6f3a11", "Root=1-67891233-abc", "a.b_c~d:e/f+g=h@i")


@pytest.mark.parametrize("sent", GOOD_IDS)
def test_the_clients_id_is_kept_and_logged(service: Service, sent: str) -> None:
    answer = ask(service.port, "GET", "/seen", f"X-Request-ID: {sent}")
    assert answer.json["id"] == answer.headers["x-request-id"] == answer.json["onward"]["X-Request-ID"] == sent
    wait_until(lambda: f'"request_id":"{sent}"' in service.process.output, 5)


BAD_IDS = (
    "",
    "x" * 129,
    "a b",
    'a"b',
    "a,b",
    "a;b",
    "a\tb",
    "\xff",
    "a\\nb",
    "<a>",
    "{a}",
    "a'b",
    "$(a)",
    "`a`",
    "a%0d",
)


@pytest.mark.parametrize("sent", BAD_IDS)
def test_an_unsafe_id_is_replaced(service: Service, sent: str) -> None:
    with RawConnection(service.port) as connection:
        connection.send(f"GET /seen HTTP/1.1\r\nHost: a\r\nX-Request-ID: {sent}\r\n\r\n".encode("latin-1"))
        answer = connection.answer()
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert answer.headers["x-request-id"] == answer.json["id"]


def test_two_ids_are_replaced_by_one(service: Service) -> None:
    answer = ask(service.port, "GET", "/seen", "X-Request-ID: a", "X-Request-ID: b")
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/none", 404), ("PUT", "/seen", 405), ("POST", "/seen", 400)]
)
def test_answers_without_a_handler_have_the_id_too(service: Service, method: str, path: str, status: int) -> None:
    fields = ["X-Request-ID: mine", "Content-Type: application/json"]
    answer = ask(service.port, method, path, *fields, body=b"{" if method == "POST" else b"")
    assert (answer.status, answer.headers["x-request-id"]) == (status, "mine")


@pytest.mark.parametrize(("line", "kept"), [("Transfer-Encoding: chunked", True), ("Content-Length: x", False)])
def test_refusals_have_an_id_too_the_clients_if_its_header_was_whole(service: Service, line: str, kept: bool) -> None:
    with RawConnection(service.port) as connection:
        connection.send(f"POST /seen HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n{line}\r\n\r\nno chunk\r\n")
        answer = connection.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert re.fullmatch("mine" if kept else "[0-9a-f]{16}", answer.headers["x-request-id"])


def test_the_id_of_a_refused_request_is_not_that_of_the_one_before(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.ask("GET", "/seen", "X-Request-ID: before")
        connection.send("nonsense\r\n\r\n")
        assert re.fullmatch("[0-9a-f]{16}", connection.answer().headers["x-request-id"])


def test_an_answer_has_one_id_also_if_the_handler_sets_one(service: Service) -> None:
    with RawConnection(service.port) as connection:
        connection.request("GET", "/own-id", "X-Request-ID: theirs", "Connection: close")
        head = connection.wait_end().lower()
    assert head.count(b"x-request-id:") == 1
    assert b"x-request-id: theirs" in head


def test_a_handshake_is_answered_with_the_id(service: Service) -> None:
    client = RawWebSocket.__new__(RawWebSocket)
    RawConnection.__init__(client, service.port)
    with client:
        assert client.handshake("/ws", "X-Request-ID: socket-1").headers["x-request-id"] == "socket-1"


def test_an_error_has_an_id_that_is_in_the_log_and_nothing_else(service: Service) -> None:
    answer = ask(service.port, "GET", "/fails", "X-Request-ID: find-me")
    assert (answer.status, answer.json) == (500, {"error": "Internal Server Error", "id": "find-me"})
    assert b"hunter2" not in answer.body
    line = wait_until(lambda: _log(service, "(error find-me)"), 5)
    assert "hunter2" in line["error"]


def _log(service: Service, text: str) -> dict[str, str]:
    """The latest log line with this text; empty without one."""
    lines = [line for line in service.process.output.splitlines() if text in line and line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


# --- the trace --------------------------------------------------------------------------------------------------------
def test_the_trace_goes_on_to_nested_calls(service: Service) -> None:
    answer = ask(service.port, "GET", "/nested", f"traceparent: {PARENT}", "tracestate: a=1, b@c=2")
    _, trace, span, flags = answer.json["traceparent"].split("-")
    assert (trace, flags, answer.json["tracestate"]) == (TRACE, "01", "a=1,b@c=2")
    assert span != SPAN


def test_the_trace_goes_on_in_header_fields_and_into_the_log(service: Service) -> None:
    answer = ask(service.port, "GET", "/seen", f"traceparent: {PARENT}", "tracestate: a=1", "X-Request-ID: traced")
    onward = answer.json["onward"]
    assert onward["traceparent"].startswith(f"00-{TRACE}-")
    assert onward["tracestate"] == "a=1"
    wait_until(lambda: _log(service, '"request_id":"traced"').get("trace_id") == TRACE, 5)


@pytest.mark.parametrize(
    "parent",
    [
        *("", "00", PARENT.upper(), f"ff{PARENT[2:]}", f"{PARENT}-x", f"00-{'0' * 32}-{SPAN}-01", f"{PARENT}x"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}"),
        *(f"0x-{TRACE}-{SPAN}-01", f"00_{TRACE}_{SPAN}_01", f"00-{TRACE[:-1]}g-{SPAN}-01"),
    ],
)
def test_a_malformed_trace_is_ignored(service: Service, parent: str) -> None:
    answer = ask(service.port, "GET", "/seen", f"traceparent: {parent}", "tracestate: a=1")
    assert set(answer.json["onward"]) == {"X-Request-ID"}
    assert ask(service.port, "GET", "/nested", f"traceparent: {parent}").json["traceparent"] is None


def test_two_traces_are_ignored(service: Service) -> None:
    answer = ask(service.port, "GET", "/seen", f"traceparent: {PARENT}", f"traceparent: {PARENT}")
    assert set(answer.json["onward"]) == {"X-Request-ID"}


def test_a_newer_version_of_a_trace_is_passed_on_as_ours(service: Service) -> None:
    onward = ask(service.port, "GET", "/seen", f"traceparent: 01-{TRACE}-{SPAN}-fd-more").json["onward"]
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", onward["traceparent"])


# --- time limits ------------------------------------------------------------------------------------------------------
def late(answer: Answer) -> bool:
    return answer.status == 504 and answer.json == {
        "error": "Gateway Timeout",
        "id": answer.headers["x-request-id"],
    }


def test_a_handler_has_the_time_of_the_setting(service: Service) -> None:
    left = ask(service.port, "GET", "/sleep/0.1").json
    assert 0 < left < 0.41


@pytest.mark.alone
def test_a_handler_that_takes_too_long_is_interrupted_and_answered_504(service: Service) -> None:
    with RawConnection(service.port) as connection:
        begun = time.monotonic()
        assert late(connection.ask("GET", "/sleep/60", "X-Request-ID: slow"))
        assert 0.45 < time.monotonic() - begun < 1.5
        assert connection.ask("GET", "/sleep/0").status == 200  # the connection goes on
    line = wait_until(lambda: _log(service, "(error slow)"), 5)
    assert "time.sleep(float(seconds))" in line["error"]  # where it waited


def test_finally_blocks_of_an_interrupted_handler_run(service: Service) -> None:
    assert late(ask(service.port, "GET", "/finally"))
    service.process.wait_line("cleaned up")


def test_a_route_may_have_no_limit(service: Service) -> None:
    answer = ask(service.port, "GET", "/long")
    assert (answer.status, answer.json) == (200, None)


def test_a_handler_in_a_thread_is_answered_504_and_goes_on(service: Service) -> None:
    assert late(ask(service.port, "GET", "/thread"))
    assert service.process.count("thread ended") == 0
    service.process.wait_line("thread ended")


def test_a_timeout_of_the_handlers_own_is_a_failure(service: Service) -> None:
    assert ask(service.port, "GET", "/own-timeout").status == 500


@pytest.mark.alone
@pytest.mark.parametrize("path", ["/nested-late", "/nested-thread"])
def test_nested_calls_inherit_what_is_left(service: Service, path: str) -> None:
    begun = time.monotonic()
    assert late(ask(service.port, "GET", path))
    assert time.monotonic() - begun < 1.2
    if path == "/nested-thread":
        service.process.wait_line(r"nested call ended after 0\.[456]")


def test_a_nested_call_after_the_deadline_is_not_sent(service: Service) -> None:
    assert late(ask(service.port, "GET", "/nested-too-late"))
    service.process.wait_line("not called, because the time limit of the request being handled is over")
