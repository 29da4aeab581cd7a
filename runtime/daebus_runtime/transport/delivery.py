"""One received request and its outcome. A transport creates it; the outermost layer of `dispatch`, and nothing
else, settles it with the `Outcome` of the run.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from ..envelope import Reply, Request
from ..errors import MessageTooLarge, ReplyTooLarge, Unsupported

SHORT_TEXT = 300  # an error text that is too large for a message is cut to this many characters


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    reply: the reply still to be sent; None if the handler has replied through the delivery. error: the exception if the
    run failed. retry_after: deliver the request again after this many seconds; a transport without redelivery sends
    `reply` instead.
    """

    reply: Reply | None = None
    error: BaseException | None = None
    retry_after: float | None = None


DONE = Outcome()


class Delivery(abc.ABC):
    """One request as it was received. `settle` ends it, exactly once.

    Intermediate replies are always sent at once. So is the final reply, as callers of the original Daebus expect. With
    `keep` it waits for `settle`: then it is sent in one step with the outcome, and not at all if the run fails later.
    """

    __slots__ = ("_kept", "answered", "keep", "request", "settled")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.keep = False
        """Whether the final reply waits for `settle`; set before the handler runs."""
        self.answered = False
        """Whether a final reply was given, or can no longer be given."""
        self.settled = False
        self._kept: bytes | None = None

    def begin(self) -> bool:
        """Called before the handler runs; False if it must not run any more."""
        return True

    def abandon(self, outcome: Outcome) -> None:
        """End it because the service stops: with this outcome, unless another replica can run it."""
        self.settle(outcome)

    def commit(self, pipe: Any) -> None:
        """See `Request.commit`."""
        raise Unsupported("this transport has no step in which commands could run with the outcome")

    def reply(self, reply: Reply) -> None:
        """Send or keep a reply. Never blocks, and does not fail when the bus is lost. Raises ReplyTooLarge, and
        TypeError for a payload without a JSON form."""
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
        """End this delivery. Only the first call counts: if a run was cut off and settled, its late end is ignored."""
        if self.settled:
            return
        self.settled = True
        data = None if outcome is DONE and self._kept is None else self._last_words(outcome)
        self.answered = True
        self._end(data, outcome)

    def _last_words(self, outcome: Outcome) -> bytes | None:
        """The final reply that was not sent yet: that of the outcome, else the one that was kept."""
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
        """Raise MessageTooLarge if `data` is too large to be sent."""

    @abc.abstractmethod
    def _post(self, data: bytes) -> None:
        """Send to the caller. Raises MessageTooLarge."""

    @abc.abstractmethod
    def _end(self, data: bytes | None, outcome: Outcome) -> None:
        """Send `data` (if any) and record the outcome, in one step if the transport can."""
