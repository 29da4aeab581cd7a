"""The links of one bus, by role and place: each is opened at its first use and closed with the bus."""

from __future__ import annotations

from collections.abc import Callable

from .home import Home
from .link import Link
from .topology import Role, Topology


class Links:
    """`prepare(link)` sets a new link's callbacks before it opens. Home loop only."""

    def __init__(self, home: Home, topology: Topology, prepare: Callable[[Link], None]) -> None:
        self._home, self.topology, self._prepare = home, topology, prepare
        self._links: dict[tuple[Role, str], Link] = {}

    def get(self, role: Role, key: str | None = None) -> Link:
        """The link for a role and, where a topology has several servers, for a key."""
        place = role, self.topology.place(role, key)
        link = self._links.get(place)
        if link is None:
            link = self._links[place] = Link(self._home, self.topology, role, key)
            self._prepare(link)
        return link

    def told(self, error: Exception) -> None:
        """An error reply: MOVED, ASK, READONLY and LOADING say that another server is the right one."""
        self.topology.told(error)

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    def forsake(self) -> None:
        """In a forked child: let go of the descriptors, and leave the parent's connections alone."""
        for link in self._links.values():
            link.forsake()
