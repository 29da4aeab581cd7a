"""One received request, and how it ends. A transport makes a `Delivery`; the outermost layer of `dispatch` settles it
with the `Outcome` of its run. Nothing else settles.
"""

from __future__ import annotations

import abc
import dataclasses

from ..envelope import Reply, Request
from ..errors import MessageTooLarge, ReplyTooLarge

SHORT_TEXT = 300  # characters of an error text that fit where the whole text does not


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    reply: the answer that the run leaves to be sent; None when the handler gave it through the delivery. error: what
    made the run fail. retry_after: deliver the request again after so many seconds; a transport without redelivery
    sends `reply` instead.
    """

    reply: Reply | None = None
    error: BaseException | None = None
    retry_after: float | None = None


DONE = Outcome()


class Delivery(abc.ABC):
    """One request as it was received. `settle` ends it, exactly once.

    Intermediate replies always leave at once. The final reply leaves at once too, as callers of the original expect;
    with `keep` it stays here until `settle`, so that it leaves in one step with the outcome, and not at all when the
    run fails afterwards.
    """

    __slots__ = ("_kept", "answered", "keep", "request", "settled")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.keep = False
        """Whether the final reply waits for `settle`; chosen before the handler runs."""
        self.answered = False
        """Whether a final reply was given, or can no longer be."""
        self.settled = False
        self._kept: bytes | None = None

    def reply(self, reply: Reply) -> None:
        """Give a reply; never blocks, never fails for a lost bus. Raises ReplyTooLarge and TypeError (no JSON
        form)."""
        data = reply.encode()
        try:
            if self.keep and reply.final:
                self._check(data)
                self._kept = data
            else:
                self._post(data)
        except MessageTooLarge as error:
            raise ReplyTooLarge(str(error)) from None
        if reply.final:
            self.answered = True

    def settle(self, outcome: Outcome) -> None:
        """End this delivery. Only the first call counts: a run that is cut off settles, and its late end does not."""
        if self.settled:
            return
        self.settled = True
        data = None if outcome is DONE and self._kept is None else self._last_words(outcome)
        self.answered = True
        self._end(data, outcome)

    def _last_words(self, outcome: Outcome) -> bytes | None:
        """The final reply that has not left yet: the outcome's own, else the one that was kept."""
        reply = outcome.reply
        if reply is None or (self.answered and not self.keep):
            return self._kept if outcome.error is None else None
        data = reply.encode()
        try:
            self._check(data)
        except MessageTooLarge:
            short = dataclasses.replace(reply, payload={"error": reply.error_text[:SHORT_TEXT]})
            data = short.encode()
            self._check(data)
        return data

    @abc.abstractmethod
    def _check(self, data: bytes) -> None:
        """Raise MessageTooLarge when `data` could not be sent."""

    @abc.abstractmethod
    def _post(self, data: bytes) -> None:
        """Send to whoever asked. Raises MessageTooLarge."""

    @abc.abstractmethod
    def _end(self, data: bytes | None, outcome: Outcome) -> None:
        """Send `data`, if there is any, and record the outcome, in one step where the transport can."""
