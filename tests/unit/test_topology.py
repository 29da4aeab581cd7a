"""Which server a link talks to."""

from __future__ import annotations

import pytest
from daebus_runtime.transport import topology as topologies
from daebus_runtime.transport.topology import Role


def test_a_link_may_try_as_often_as_it_takes() -> None:
    """redis-py's pool refuses for ever after its hundredth connection, also when each of them has failed."""
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
    """A command that redis-py sends a second time may have been carried out the first time."""
    topology = topologies.of("redis://127.0.0.1:1")
    one, two = topology.connection(role), topology.connection(role)
    assert one is not two
    assert one.retry.get_retries() == 0
