"""Topology: which server each link connects to, and with which connection options."""

from __future__ import annotations

import pytest
from daebus_runtime import ConfigurationError, Daebus, DaebusCaller
from daebus_runtime.transport import topology as topologies
from daebus_runtime.transport.topology import Role

from tests.support.redis_server import RedisServer


def test_a_link_may_try_as_often_as_it_takes() -> None:
    """redis-py's pool counts failed connections too: after a hundred of them it refuses for ever."""
    topology = topologies.of("redis://127.0.0.1:1")
    for _ in range(250):
        topology.connection(Role.COMMANDS)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6380/2", "redis://host:6380/2"),
        ("redis://user:secret@host:6380/0", "redis://***@host:6380/0"),
        ("rediss://:secret@host?ssl_check_hostname=false", "rediss://***@host"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_its_address_is_shown_without_secrets(url: str, shown: str) -> None:
    topology = topologies.of(url)
    assert topology.describe() == shown
    assert "secret" not in repr(topology)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_has_a_connection_of_its_own_that_does_not_retry_by_itself(role: Role) -> None:
    """If redis-py retried a command, the server might execute it twice."""
    topology = topologies.of("redis://127.0.0.1:1")
    one, two = topology.connection(role), topology.connection(role)
    assert one is not two
    assert one.retry.get_retries() == 0


@pytest.mark.parametrize(
    ("url", "option", "text"),
    [
        ("redis://h?protocol=2", "protocol", "3"),
        ("redis://h?protocol=4", "protocol", "3"),
        ("redis://h?nonsense=1", "nonsense", "not known"),
        ("redis://h?decode_responses=true", "decode_responses", "not known"),
        ("redis://h?ssl_cert_reqs=none", "ssl_cert_reqs", "rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "ssl_cert_reqs", "required or optional or none"),
        ("rediss://h?ssl_ca_certs=/no/such/ca.pem", "ssl_ca_certs", "file"),
        ("rediss://h?ssl_ca_path=/no/such/folder", "ssl_ca_path", "folder"),
        (f"rediss://h?ssl_ca_certs={__file__}", "ssl_ca_certs", "cannot be used"),
        ("rediss://h?ssl_min_version=9", "ssl_min_version", "TLSv1.2"),
        ("rediss://h?ssl_ciphers=none-such", "ssl_ciphers", "cannot be used"),
        (f"rediss://h?ssl_keyfile={__file__}", "ssl_keyfile", "ssl_certfile"),
        ("redis://h?socket_timeout=nan", "socket_timeout", "seconds above 0"),
        ("redis://h?socket_timeout=0", "socket_timeout", "seconds above 0"),
        ("redis://h?db=-1", "db", "whole number"),
        ("redis://h?db=1&db=2", "db", "twice"),
        ("redis://h?client_name=a%20b", "client_name", "white space"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_its_name(url: str, option: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        topologies.of(url)
    assert f"option {option!r}" in str(raised.value)
    assert text in str(raised.value)
    with pytest.raises(ConfigurationError, match=option):
        DaebusCaller("garden", redis_url=url).send_request("echo")


def test_a_refused_option_shows_no_secret() -> None:
    with pytest.raises(ConfigurationError) as raised:
        topologies.of("rediss://user:s3cret@h?ssl_password=s3cret&ssl_min_version=9")
    assert "s3cret" not in str(raised.value)


def test_a_start_with_an_option_that_cannot_work_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        Daebus("garden").run(redis_url="redis://127.0.0.1:1?protocol=2")
    assert end.value.code == 1
    assert "option 'protocol'" in capsys.readouterr().err


def test_a_database_number_is_logged_at_the_start_since_channels_ignore_it(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    topologies.check(f"redis://127.0.0.1:{shared_redis.port}/0")
    assert not caplog.records
    topologies.check(f"redis://127.0.0.1:{shared_redis.port}/5")
    assert "database 5, but channels belong to no database" in caplog.records[0].getMessage()
    with pytest.raises(ConfigurationError, match="DB index is out of range"):
        topologies.check(f"redis://127.0.0.1:{shared_redis.port}/5000")


def test_a_blocking_read_may_be_silent_for_longer() -> None:
    assert Role.BLOCKING.silence > topologies.BLOCK_SECONDS
    assert Role.COMMANDS.silence == Role.SUBSCRIPTIONS.silence
