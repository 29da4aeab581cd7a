"""`request` and `response` behave like the objects that they stand for; outside a handler they are false and raise."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from daebus_runtime import Daebus, DaebusCaller, PubSubRequest, RemoteError, cache, request, response
from daebus_runtime.context import Context, call_here
from daebus_runtime.context.proxies import Here
from daebus_runtime.errors import OutsideHandler
from daebus_runtime.testing import TestApp


def in_a_handler(act: Callable[[], Any], payload: Any = None) -> Any:
    app = Daebus("garden")
    seen: list[Any] = []

    @app.action("do")
    def do() -> int:
        seen.append(act())
        return 1

    with TestApp(app) as service:
        service.call("do", payload)
    return seen[0]


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_is_the_request_itself_and_outlives_the_message(how: Callable[[Any], Any]) -> None:
    kept = in_a_handler(lambda: how(request), {"a": [1]})
    assert isinstance(kept, PubSubRequest)
    assert (kept.action, kept.payload) == ("do", {"a": [1]})


def test_a_deep_copy_shares_nothing() -> None:
    def act() -> bool:
        other = copy.deepcopy(request)
        other.payload["a"].append(2)
        return bool(request.payload == {"a": [1]} and copy.copy(request).payload is request.payload)

    assert in_a_handler(act, {"a": [1]})


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_with_every_protocol_that_supports_slots(protocol: int) -> None:
    assert pickle.loads(in_a_handler(lambda: pickle.dumps(request, protocol), "x")).payload == "x"


def test_it_looks_like_the_object_it_stands_for() -> None:
    def act() -> None:
        target = copy.copy(request)
        assert isinstance(request, PubSubRequest)
        assert request == target
        assert target == request
        assert request == request
        assert request != response
        assert {"payload", "raw", "traceparent"} <= set(dir(request))
        assert "send" in dir(response)
        assert request
        assert bool(response)
        assert hasattr(request, "payload")
        assert not hasattr(request, "nosuch")
        request.payload = "changed"
        assert target.payload != request.payload
        with pytest.raises(AttributeError):
            del request.note  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="unhashable"):
            hash(request)

    in_a_handler(act)


def test_a_response_cannot_be_copied() -> None:
    for how in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(RemoteError, match="cannot be copied or pickled"):
            in_a_handler(partial(how, response))


@pytest.mark.parametrize("proxy", [request, response], ids=["request", "response"])
def test_outside_a_handler_it_is_false(proxy: Any) -> None:
    assert not hasattr(proxy, "payload")
    assert getattr(proxy, "send", "default") == "default"
    assert not proxy
    assert proxy == proxy
    assert proxy != 1
    assert {proxy: 1}[proxy] == 1
    assert dir(proxy) == []
    assert isinstance(proxy, Here)
    assert "of the message being handled" in repr(proxy)
    for act in (copy.copy, copy.deepcopy, pickle.dumps, lambda proxy: proxy.payload):
        with pytest.raises(OutsideHandler, match="can be used only while a message is handled") as raised:
            act(proxy)
        assert isinstance(raised.value, AttributeError)
        assert isinstance(raised.value, RuntimeError)


def test_the_cache_is_copied_as_itself_and_lists_the_commands() -> None:
    assert copy.copy(cache) is copy.deepcopy(cache) is pickle.loads(pickle.dumps(cache)) is cache
    assert not hasattr(cache, "get")
    with TestApp(Daebus("garden")):
        assert {"get", "set", "hgetall"} <= set(dir(cache))
        assert hasattr(cache, "get")


def test_a_listener_has_no_response() -> None:
    app = Daebus("garden")
    seen: list[Any] = []

    @app.listen("news")
    def news(message: Any) -> None:
        seen.extend([hasattr(response, "send"), bool(response), request.channel, request.raw, request.request_id])

    with TestApp(app) as service:
        service.broadcast("news", {"n": 1})
    assert seen == [False, False, "news", {"n": 1}, None]


# --- what is sent from a handler --------------------------------------------------------------------------------------
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_context_knows_its_trace_and_messages_sent_from_it_continue_it() -> None:
    message = PubSubRequest("garden", "do", request_id="first", raw={"traceparent": TRACE})
    context: Context = Context(Daebus("garden"), message)
    assert (context.trail.attempt, context.trail.deadline, context.trail.correlation) == (1, None, "first")
    onward = context.onward
    assert (onward.correlation, onward.causation) == ("first", "first")
    assert onward.traceparent is not None
    assert onward.traceparent[:36] == TRACE[:36]
    assert onward.traceparent != TRACE
    assert call_here(context, lambda: request.request_id) == "first"


@pytest.mark.parametrize("given", [None, 5, "", "00-short-x-01", "x" * 55, ["00"]], ids=repr)
def test_an_invalid_traceparent_is_not_sent_on(given: Any) -> None:
    context = Context(Daebus("garden"), PubSubRequest("garden", "do", raw={"traceparent": given}))
    assert context.onward.traceparent is None
    assert len(context.trace_id) == 32


def test_a_nested_call_carries_the_trace_of_the_message_that_is_handled() -> None:
    app = Daebus("garden")
    app.action("inner")(lambda: request.raw.get("traceparent"))
    app.action("outer")(lambda: DaebusCaller("garden").send_request("inner"))
    with TestApp(app) as service:
        transport = service.runner.transport
        asked = PubSubRequest("garden", "outer", raw={"traceparent": TRACE})
        seen = transport.request(asked, 5.0).payload
        assert seen[:36] == TRACE[:36]
        assert seen != TRACE
        with pytest.raises(RemoteError, match="without a reply"):  # no trace came in, so none is sent on
            service.call("inner")


# --- a program that only calls --------------------------------------------------------------------------------------
UNTOUCHED = """
import concurrent.futures, logging, socket, threading
before = concurrent.futures.ThreadPoolExecutor.submit, socket.socket, threading.Thread.start, logging.Handler.createLock
from daebus import DaebusCaller, request, response, broadcast, cache, logger
DaebusCaller("garden")
after = concurrent.futures.ThreadPoolExecutor.submit, socket.socket, threading.Thread.start, logging.Handler.createLock
print("same" if before == after else "patched")
from daebus import Daebus
print("carried" if concurrent.futures.ThreadPoolExecutor.submit is not before[0] else "not carried")
"""


def test_a_program_that_only_calls_is_left_as_it_is() -> None:
    done = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:2] == ["same", "carried"]
