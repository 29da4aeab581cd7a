"""Which peers are proxies of ours, whose word about their clients counts: `DAEBUS_FORWARDED_ALLOW`."""

from __future__ import annotations

import functools
import ipaddress

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
ANYBODY, UNIX = "*", "unix"
MOST_KNOWN = 4096
"""How many addresses are remembered with their answer."""


def parse_ip(text: str | bytes) -> IP:
    """An address, from its text or its bytes; IPv4 written as IPv6 (`::ffff:192.0.2.1`) becomes IPv4. ValueError."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


class Trust:
    """entries: addresses, networks, `unix` for peers on a Unix socket, `*` for every peer."""

    def __init__(self, entries: tuple[str, ...]) -> None:
        self._all, self._unix = ANYBODY in entries, UNIX in entries
        self._networks = [_network(entry) for entry in entries if entry not in (ANYBODY, UNIX)]
        self.trusts = functools.lru_cache(MOST_KNOWN)(self._trusts)
        """Whether a peer is trusted, by its address as text; None or empty is a peer on a Unix socket."""

    def _trusts(self, address: str | None) -> bool:
        if self._all or not address:
            return self._all or self._unix
        try:
            ip = parse_ip(address.partition("%")[0])  # link-local addresses may name an interface
        except ValueError:
            return False
        return any(ip.version == network.version and ip in network for network in self._networks)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    network = ipaddress.ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
