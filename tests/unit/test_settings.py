"""Settings: names, precedence, the error for a bad value, and that no secret is ever shown."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import math
import re

import pytest
from daebus_runtime import DaebusCaller
from daebus_runtime.errors import ConfigurationError
from daebus_runtime.settings import (
    FILE,
    HOST,
    NAME,
    UNSET,
    Server,
    Settings,
    given,
    load,
    parse,
    redact,
    redis_url_of,
    unknown_variables,
)

PORT_FORM = "a port number, 0 to 65535"
SECONDS_FORM = "seconds, 0 to 3600"
PEERS = "addresses and networks (10.1.2.3, 10.42.0.0/16, fd00::/8) with commas between, `unix`, `*`, or none"


def test_without_anything_every_setting_has_its_default() -> None:
    assert load(environ={}).settings == Settings()


def test_each_field_is_read_from_the_variable_of_its_name() -> None:
    texts = {
        "service": "x",
        "redis_url": "redis://h",
        "embedded": "never",
        "http_host": "::1",
        "management_host": "::1",
    }
    texts |= {"log_format": "json", "log_level": "error", "debug": "yes"}
    texts |= {"forwarded_allow": "10.0.0.0/8", "proxy_protocol": "v2", "access_log": "json"}
    for field in dataclasses.fields(Settings):
        text = texts.get(field.name, "2048")
        loaded = load(environ={f"DAEBUS_{field.name.upper()}": text}).settings
        assert getattr(loaded, field.name) != field.default or str(field.default) == text, field.name
        assert field.metadata["about"], field.name
        assert field.metadata["form"], field.name


def test_the_environment_wins_over_the_argument_which_wins_over_the_default() -> None:
    arguments = {"http_port": 9000, "drain_seconds": 3}
    loaded = load(arguments, {"DAEBUS_HTTP_PORT": "9001"})
    assert loaded.settings.http_port == 9001
    assert loaded.settings.drain_seconds == 3
    assert loaded.settings.log_level == "info"


def test_an_argument_that_the_environment_overrides_is_reported_once() -> None:
    loaded = load({"http_port": 9000, "service": "same"}, {"DAEBUS_HTTP_PORT": "9001", "DAEBUS_SERVICE": "same"})
    assert loaded.overridden == ("http_port is taken from DAEBUS_HTTP_PORT, not from the program's argument",)


def test_an_omitted_argument_differs_from_one_that_equals_the_default() -> None:
    assert not given(UNSET)
    assert given(None)
    assert given(8080)
    assert load({"http_port": UNSET}, {"DAEBUS_HTTP_PORT": "1"}).overridden == ()
    assert load({"http_port": 8080}, {"DAEBUS_HTTP_PORT": "1"}).overridden != ()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(environ={"DAEBUS_HTTP_PORT": "", "DAEBUS_REDIS_URL": ""}).settings == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "form"),
    [
        ("DAEBUS_HTTP_PORT", "eighty", "a port number, 0 to 65535"),
        ("DAEBUS_HTTP_PORT", "65536", "a port number, 0 to 65535"),
        ("DAEBUS_HTTP_PORT", "-1", "a port number, 0 to 65535"),
        ("DAEBUS_DRAIN_SECONDS", "nan", "seconds, 0 to 3600"),
        ("DAEBUS_DRAIN_SECONDS", "inf", "seconds, 0 to 3600"),
        ("DAEBUS_DRAIN_SECONDS", "5s", "seconds, 0 to 3600"),
        ("DAEBUS_LOG_FORMAT", "xml", "auto, text or json"),
        ("DAEBUS_EMBEDDED", "sometimes", "auto, always or never"),
        ("DAEBUS_DEBUG", "maybe", "true or false"),
        ("DAEBUS_MESSAGE_LIMIT", "16MB", "bytes, 1024 to 512 MiB"),
        ("DAEBUS_SERVICE", "two words", NAME),
        ("DAEBUS_SERVICE", "all*", NAME),
        ("DAEBUS_HTTP_HOST", "   ", HOST),
        ("DAEBUS_HTTP_HOST", "127.0.0.1:80", HOST),
        ("DAEBUS_HTTP_HOST", "http://localhost", HOST),
        ("DAEBUS_HTTP_HOST", "[::1]", HOST),
        ("DAEBUS_HTTP_HOST", "local\x00host", HOST),
        ("DAEBUS_HTTP_HOST", "a\x1b[2J", HOST),
        ("DAEBUS_MANAGEMENT_HOST", "a\u202eb", HOST),
        ("DAEBUS_MANAGEMENT_HOST", "a\udcffb", HOST),
        ("DAEBUS_HTTP_PORT", "8_080", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "٨٠٨٠", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "\uff18\uff10\uff18\uff10", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "+8080", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "0x1F90", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "1e3", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "8080.0", PORT_FORM),
        ("DAEBUS_HTTP_PORT", "80 80", PORT_FORM),
        ("DAEBUS_HTTP_PORT", " ", PORT_FORM),
        ("DAEBUS_DRAIN_SECONDS", "1_0", SECONDS_FORM),
        ("DAEBUS_DRAIN_SECONDS", "1e3", SECONDS_FORM),
        ("DAEBUS_DRAIN_SECONDS", "\u0665", SECONDS_FORM),
        ("DAEBUS_DRAIN_SECONDS", "-0", SECONDS_FORM),
        ("DAEBUS_DRAIN_SECONDS", "5,5", SECONDS_FORM),
        ("DAEBUS_LOG_LEVEL", "info\x00", "debug, info, warning or error"),
        ("DAEBUS_DEBUG", "ja", "true or false"),
        ("DAEBUS_SERVICE", "a\x1b[2J", NAME),
        ("DAEBUS_SERVICE", "a\u200bb", NAME),
        ("DAEBUS_SERVICE", "a\udcffb", NAME),
        ("DAEBUS_PROXY_PROTOCOL", "v3", "off, v1, v2 or auto"),
        ("DAEBUS_ACCESS_LOG", "/var/log/x", "off, json or combined"),
        ("DAEBUS_TLS_CERT", " ", FILE),
        *(
            ("DAEBUS_FORWARDED_ALLOW", value, PEERS)
            for value in (
                "proxy",
                "10.1.2.3/8",
                "10.0.0.0/33",
                "10.0.0.1,",
                "none,10.0.0.1",
                "10.0.0.1 10.0.0.2",
                "::g",
            )
        ),
    ],
)
def test_a_bad_value_names_the_variable_the_value_and_the_form(variable: str, value: str, form: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ={variable: value})
    assert str(caught.value) == f"{variable}: {value!r} is not {form}"


@pytest.mark.parametrize(
    ("text", "peers"),
    [
        ("none", None),
        ("10.0.0.1", ("10.0.0.1",)),
        (" 10.0.0.0/8 ,fd00::/8,  unix", ("10.0.0.0/8", "fd00::/8", "unix")),
        ("*", ("*",)),
    ],
)
def test_peers(text: str, peers: tuple[str, ...] | None) -> None:
    assert load(environ={"DAEBUS_FORWARDED_ALLOW": text}).settings.forwarded_allow == peers


def test_a_bad_argument_is_named_as_one() -> None:
    with pytest.raises(ConfigurationError, match=r"argument http_port: '8080\.5' is not a port number"):
        load({"http_port": 8080.5}, {})


@pytest.mark.parametrize("around", [" {} ", "{}\n", "\t{}\r\n"])
def test_white_space_around_a_value_is_ignored(around: str) -> None:
    texts = {"HTTP_PORT": "8080", "DEBUG": "true", "DRAIN_SECONDS": "2.5", "HTTP_HOST": "::1", "SERVICE": "shop"}
    texts |= {"LOG_LEVEL": "Warning", "REDIS_URL": "redis://h", "EMBEDDED": "NEVER"}
    loaded = load(environ={f"DAEBUS_{name}": around.format(text) for name, text in texts.items()}).settings
    assert (loaded.http_port, loaded.debug, loaded.drain_seconds, loaded.http_host) == (8080, True, 2.5, "::1")
    assert (loaded.service, loaded.log_level, loaded.redis_url) == ("shop", "warning", "redis://h")
    assert loaded.embedded == "never"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("http_port", True, "True (bool) is not a port number"),
        ("http_port", 8080.0, "'8080.0' is not a port number"),
        ("http_port", math.nan, "'nan' is not a port number"),
        ("http_port", b"80", "b'80' (bytes) is not a port number"),
        ("http_port", [80], "[80] (list) is not a port number"),
        ("http_port", 2**70, "is not a port number"),
        ("drain_seconds", True, "True (bool) is not seconds"),
        ("drain_seconds", math.nan, "'nan' is not seconds"),
        ("drain_seconds", math.inf, "'inf' is not seconds"),
        ("drain_seconds", 1j, "1j (complex) is not seconds"),
        ("debug", 2, "'2' is not true or false"),
        ("debug", 1.5, "'1.5' is not true or false"),
        ("service", 5, "'5' is not a name"),
        ("http_host", b"::1", "b'::1' (bytes) is not an address"),
        ("http_host", "a" * 300, "…' is not an address"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(name: str, value: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^argument {name}: .*" + re.escape(text)) as caught:
        load({name: value}, {})
    assert len(str(caught.value)) < 250


def test_an_argument_may_be_a_string_or_have_the_type_of_the_setting() -> None:
    class Port(enum.IntEnum):
        OWN = 8081

    assert load({"http_port": "8080", "drain_seconds": "2.5", "debug": "yes"}, {}).settings.http_port == 8080
    assert load({"http_port": Port.OWN, "drain_seconds": decimal.Decimal("2.5"), "debug": 1}, {}).settings == Settings(
        http_port=8081, drain_seconds=2.5, debug=True
    )
    assert load({"http_port": None, "service": None}, {}).settings == Settings()
    assert load({"http_port": "9000"}, {"DAEBUS_HTTP_PORT": "9000"}).overridden == ()
    assert load({"http_port": "x"}, {"DAEBUS_HTTP_PORT": "9000"}).overridden != ()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6380/3",
        "redis://user:p%40ss@host.example:6379",
        "rediss://:secret@[::1]:6380/0?ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock",
        "unix://user:secret@/run/redis.sock?db=2",
    ],
)
def test_bus_addresses_that_can_be_used(url: str) -> None:
    assert load(environ={"DAEBUS_REDIS_URL": f" {url} "}).settings.redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost:6379",
        "redis://",
        "redis://:secret@",
        "redis://host:port",
        "redis://host:0",
        "redis://host:70000",
        "redis://host/first",
        "redis://[::1",
        "redis://user:se/cret@host",
        "redis://user:12#secret@host",
        "redis://user:12?secret@host",
        "redis://host:٦٣٧٩",
        "redis://host/٣",
        "redis://host/²",
        "redis://ho\nst",
        "redis://ho st",
        "redis://:secret@host\x1b[2J",
        "redis://::1:6379",
        "unix://",
        "unix://run/redis.sock",
    ],
)
def test_a_malformed_bus_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ={"DAEBUS_REDIS_URL": url})
    text = str(caught.value)
    assert text.startswith("DAEBUS_REDIS_URL: its value (not shown, it may hold a password) is not redis://")
    assert "cret" not in text


def test_no_secret_in_a_repr_or_in_a_shown_address() -> None:
    url = "rediss://user:s3cret@host:6380/1?password=s3cret"
    settings = load(environ={"DAEBUS_REDIS_URL": url}).settings
    assert "s3cret" not in repr(settings)
    assert redact(url) == "rediss://***@host:6380/1"
    assert redact("redis://host:6379") == "redis://host:6379"
    assert redact("unix://:s3cret@/run/redis.sock?db=1") == "unix://***@/run/redis.sock"


def test_a_variable_that_nothing_reads_is_named_with_its_nearest_neighbour() -> None:
    environ = {"DAEBUS_REDIS_ULR": "x", "DAEBUS_COLOUR_OF_THE_SKY": "y", "DAEBUS_HTTP_PORT": "1", "DAEBUS__INNER": "z"}
    assert unknown_variables(environ) == [
        "DAEBUS_COLOUR_OF_THE_SKY is not a setting",
        "DAEBUS_REDIS_ULR is not a setting; did you mean DAEBUS_REDIS_URL?",
    ]


def test_one_setting_can_be_parsed_alone() -> None:
    assert parse("http_port", "80", "--port") == 80
    with pytest.raises(ConfigurationError, match="--port: 'x' is not a port number"):
        parse("http_port", "x", "--port")


def test_an_address_made_of_host_and_port() -> None:
    assert redis_url_of("localhost", 6379) == "redis://localhost:6379"
    assert redis_url_of("::1", 6380) == "redis://[::1]:6380"
    assert load({"redis_url": Server(" localhost ", "6380")}, {}).settings.redis_url == "redis://localhost:6380"
    assert load(environ={"DAEBUS_REDIS_URL": "REDIS://Host"}).settings.redis_url == "redis://Host"


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("local host", 6379, "argument redis_host: 'local host' is not an address"),
        ("h:1", 6379, "argument redis_host: 'h:1' is not an address"),
        (None, 6379, "argument redis_host: None (NoneType) is not an address"),
        ("h", "x", "argument redis_port: 'x' is not a port number, 1 to 65535"),
        ("h", True, "argument redis_port: True (bool) is not a port number, 1 to 65535"),
        ("h", 0, "argument redis_port: '0' is not a port number, 1 to 65535"),
        ("h", 6379.0, "argument redis_port: '6379.0' is not a port number, 1 to 65535"),
    ],
)
def test_host_and_port_that_cannot_be_used_are_named(host: object, port: object, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"redis_url": Server(host, port)}, {})
    assert str(caught.value).startswith(text)
    caller = DaebusCaller("shop", host, port)  # type: ignore[arg-type] # making one never fails
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        caller.send_request("buy")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().http_port = 1  # type: ignore[misc]
