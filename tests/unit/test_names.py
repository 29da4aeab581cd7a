"""Names, and the texts of settings, from all of Unicode: an accepted one works from end to end, a refusal says why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from daebus_runtime import Daebus, DaebusCaller, DaebusHttp, DaebusWebSocket, broadcast, request
from daebus_runtime.errors import ConfigurationError, RegistrationError
from daebus_runtime.settings import NAME, PREFIX, Settings, load
from daebus_runtime.testing import TestApp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.redis_server import RedisServer

ANYTHING = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12)  # lone surrogates too
NAMES = ANYTHING | st.text("aé€😀 \n\t\x00\x1b\x7f\x85\xa0\u200b\u202e\u2028\ud800*?[]\\:/.%{}", min_size=1, max_size=8)
VISIBLE = st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1, max_size=12)


@pytest.fixture(scope="module", params=["memory", "redis"])
def bus(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The address of the bus; None is the one in memory."""
    if request.param == "memory":
        yield None
        return
    with RedisServer() as server:
        yield server.url


def bounded(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(service=VISIBLE | NAMES, action=NAMES, channel=NAMES, kind=NAMES, task=NAMES)
@example("a" * 128, "b" * 256, "c" * 512, "d" * 256, "e" * 256)
@example("größe€😀\\", "\x00\x1b\n", "a\x7f]\\", " a b ", "\u202e")
@example("a" * 129, "b" * 257, "c" * 513, "d" * 257, "e" * 257)
@example("a\x1b", "\ud800", "a b", "\udfff", "a\ud800")
@bounded(50)
def test_a_name_works_or_is_refused_with_the_reason(
    bus: str | None, service: str, action: str, channel: str, kind: str, task: str
) -> None:
    app, heard = Daebus("names"), []
    app.attach(DaebusHttp())
    app.attach(DaebusWebSocket())

    def answer() -> Any:
        return [request.service, request.action]

    def listen(message: Any) -> None:
        heard.append((request.channel, message))

    def echo(data: Any, client_id: str) -> Any:
        return request.type

    action_works = declared(lambda: app.action(action)(answer), ["1 to 256 characters", "lone surrogate"])
    channel_works = declared(lambda: app.listen(channel)(listen), ["at most 512 characters"])
    kind_works = declared(lambda: app.socket(kind)(echo), ["1 to 256 characters", "lone surrogate"])
    declared(lambda: app.background(task, 3600)(lambda: None), ["1 to 256 characters", "lone surrogate"])
    try:
        running = TestApp(app, bus, service).__enter__()
    except ConfigurationError as error:
        assert str(error).startswith("argument service: ")  # noqa: PT017
        assert str(error).endswith(f" is not {NAME}")  # noqa: PT017
        with pytest.raises(ConfigurationError, match="target_service"):
            DaebusCaller(service, redis_url="redis://localhost:1").send_request("x")
        return
    try:
        app.metrics.text()
        if action_works:
            assert running.call(action) == [service.strip(), action]
        if channel_works and not set("*?[") & set(channel):
            running.broadcast(channel, {"a": 1})
            assert (channel, {"a": 1}) in heard
        if kind_works and kind not in ("publish", "subscribe", "unsubscribe", "broadcast"):
            with running.websocket() as client:
                client.send_text(json.dumps({"type": kind}))
                assert client.receive()["data"] == kind
        if not channel_works:
            with pytest.raises(ValueError, match="channel name"):
                running.run(broadcast.send, channel, {})
    finally:
        running.__exit__(None, None, None)


PATTERNS = {
    "a?": ["ab", "a]"],
    "a??": ["aé"],
    "[^a]?": ["é", "b-", "c^"],
    "[a-c]*": ["a", "ab", "a]", "aé", "b-", "c^"],
    "[c-a]": ["a"],
    "[": [],
    "[a": ["a"],
    "[^": ["a"],
    "[]": [],
    "a[]]": [],
    "a[\\]]": ["a]"],
    "[!a]": ["a"],
    "\\a\\?": [],
    "c[\\^x]": ["c^"],
}


def test_patterns_mean_the_same_in_memory_and_on_redis(bus: str | None) -> None:
    app = Daebus("names")
    heard: dict[str, list[str]] = {pattern: [] for pattern in PATTERNS}
    for pattern in PATTERNS:
        app.listen(pattern)(lambda message, pattern=pattern: heard[pattern].append(request.channel))
    with TestApp(app, bus) as running:
        for channel in ("a", "ab", "a]", "aé", "é", "b-", "c^"):
            running.broadcast(channel, {})
    assert {pattern: sorted(channels) for pattern, channels in heard.items()} == {
        pattern: sorted(channels) for pattern, channels in PATTERNS.items()
    }


def declared(declare: Any, reasons: list[str]) -> bool:
    try:
        declare()
    except RegistrationError as error:
        assert any(reason in str(error) for reason in reasons), str(error)  # noqa: PT017
        return False
    return True


FIELDS = st.sampled_from(dataclasses.fields(Settings))
[SEND_SECONDS] = (one for one in dataclasses.fields(Settings) if one.name == "send_seconds")
FILES = ("tls_cert", "tls_key", "tls_client_ca", "tls_key_password_file")
[FORWARDED_ALLOW] = (one for one in dataclasses.fields(Settings) if one.name == "forwarded_allow")
VALUES = (
    ANYTHING
    | st.integers(-10, 10**10).map(str)
    | st.floats().map(str)
    | st.sampled_from(
        ["true", "off", "auto", "never", "json", "debug", "::1", "localhost", "redis://h:1/2", "unix:///s"]
    )
)


@example(field=SEND_SECONDS, text=".0000001", around="")
@example(field=FORWARDED_ALLOW, text="10.0.0.0/8, FD00::/8,UNIX,*", around=" ")
@example(field=FORWARDED_ALLOW, text="None", around="")
@given(field=FIELDS, text=VALUES, around=st.sampled_from(["", " ", "\n", "\t"]))
@bounded(300)
def test_a_settings_text_is_used_or_refused_with_variable_and_form(
    field: dataclasses.Field[Any], text: str, around: str
) -> None:
    variable = f"{PREFIX}{field.name.upper()}"
    try:
        value = getattr(load(environ={variable: around + text + around}).settings, field.name)
    except ConfigurationError as error:
        assert str(error).startswith(f"{variable}: ")  # noqa: PT017
        assert str(error).endswith(f" is not {field.metadata['form']}")  # noqa: PT017
        assert str(error).isprintable()  # noqa: PT017
        return
    # An accepted text has one meaning: its value written out and parsed again, as text or argument, is the same.
    plain = (
        str(value).lower()
        if isinstance(value, bool)
        else format(Decimal(repr(value)), "f")  # all its digits, and no exponent
        if isinstance(value, float)
        else ",".join(value)
        if isinstance(value, tuple)
        else "none"
        if value is None
        else str(value)
    )
    assert (
        plain.isascii() or field.name in ("service", "redis_url") or field.name.endswith("_host") or field.name in FILES
    )
    assert getattr(load({field.name: plain}, {}).settings, field.name) == value
    assert getattr(load({field.name: value}, {}).settings, field.name) == value
