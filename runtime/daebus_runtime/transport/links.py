"""The links of one bus, by role and place. Each is opened at its first use and closed together with the bus."""

from __future__ import annotations

from collections.abc import Callable

from .home import Home
from .link import Link
from .topology import Role, Topology


class Links:
    """`prepare(link)` sets the callbacks of a new link before it is opened. Home loop only."""

    def __init__(self, home: Home, topology: Topology, prepare: Callable[[Link], None]) -> None:
        self._home, self.topology, self._prepare = home, topology, prepare
        self._links: dict[tuple[Role, str], Link] = {}

    def get(self, role: Role, key: str | None = None) -> Link:
        """The link for a role and, if the topology has several servers, for a key."""
        place = role, self.topology.place(role, key)
        link = self._links.get(place)
        if link is None:
            link = self._links[place] = Link(self._home, self.topology, role, key)
            self._prepare(link)
        return link

    def own(self, role: Role) -> Link:
        """A new link that nobody else uses. It may be closed before the others."""
        link = Link(self._home, self.topology, role)
        self._prepare(link)
        self._links[role, f"own {id(link)}"] = link
        return link

    def told(self, error: Exception) -> None:
        """Called for each error reply: MOVED, ASK, READONLY and LOADING mean that another server is the right one."""
        self.topology.told(error)

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    def forsake(self) -> None:
        """In a forked child: close the copied descriptors, without effect on the parent's connections."""
        for link in self._links.values():
            link.forsake()
