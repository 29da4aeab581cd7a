"""What the server refuses a replica: the reason, for readiness, and one line in the log for each change."""

from __future__ import annotations

from collections.abc import Callable

from ...logs import runtime_logger


class Refusals:
    """`others` returns a further reason, which is kept elsewhere; empty if there is none."""

    def __init__(self, service: str, others: Callable[[], str]) -> None:
        self._service, self._others = service, others
        self._reasons: dict[str, str] = {}
        """By the kind of step that is refused."""
        self._told = ""

    @property
    def reason(self) -> str:
        """Why the server refuses something; empty if it refuses nothing."""
        return next(iter(self._reasons.values()), "") or self._others()

    def add(self, what: str, text: str, passing: bool) -> None:
        """A step was refused. passing: it may be over soon, so only the second time is logged."""
        if text == self._reasons.get(what) or not passing:
            self.say(text)
        self._reasons[what] = text

    def works(self, what: str) -> None:
        """A step was done."""
        if self._reasons and self._reasons.pop(what, None) is not None:
            self.well()

    def say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            runtime_logger.error(
                "the requests of service %s cannot be served: %s; this is tried again", self._service, text
            )

    def well(self) -> None:
        """Say that all is well again, if something else was said before and it is."""
        if self._told and not self.reason:
            self._told = ""
            runtime_logger.info("service %s receives its requests again", self._service)

    def clear(self, told: bool = False) -> None:
        """Forget the reasons; `told`: the log has another line about it."""
        self._reasons.clear()
        if told:
            self._told = ""
