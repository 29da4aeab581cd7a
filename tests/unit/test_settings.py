"""Settings: names, precedence, what a bad value is answered with, and that no secret is shown."""

from __future__ import annotations

import dataclasses

import pytest
from daebus_runtime.errors import ConfigurationError
from daebus_runtime.settings import UNSET, Settings, given, load, parse, redact, redis_url_of, unknown_variables


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


def test_an_argument_that_the_environment_overrides_is_told_once() -> None:
    loaded = load({"http_port": 9000, "service": "same"}, {"DAEBUS_HTTP_PORT": "9001", "DAEBUS_SERVICE": "same"})
    assert loaded.overridden == ("http_port is taken from DAEBUS_HTTP_PORT, not from the program's argument",)


def test_not_given_is_told_apart_from_a_given_default() -> None:
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
        ("DAEBUS_SERVICE", "two words", "a name without white space or wildcards"),
        ("DAEBUS_SERVICE", "all*", "a name without white space or wildcards"),
        ("DAEBUS_HTTP_HOST", "   ", "an address"),
    ],
)
def test_a_bad_value_names_the_variable_the_value_and_the_form(variable: str, value: str, form: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(environ={variable: value})
    assert str(caught.value) == f"{variable}: {value!r} is not {form}"


def test_a_bad_argument_is_named_as_one() -> None:
    with pytest.raises(ConfigurationError, match=r"argument http_port: '8080\.5' is not a port number"):
        load({"http_port": 8080.5}, {})


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


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().http_port = 1  # type: ignore[misc]
