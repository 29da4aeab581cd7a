"""One received request and its outcome. A transport creates it; the outermost layer of `dispatch`, and nothing
else, settles it with the `Outcome` of the run.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

from ..envelope import Reply, Request
from ..errors import Unsupported

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

    __slots__ = ("answered", "keep", "request", "settled")

    request: Request
    keep: bool
    """Whether the final reply waits for `settle`; set before the handler runs, or by `commit`."""
    answered: bool
    """Whether a final reply was given, or can no longer be given."""
    settled: bool

    @abc.abstractmethod
    def reply(self, reply: Reply) -> None:
        """Send or keep a reply. Never blocks, and does not fail when the bus is lost. Raises ReplyTooLarge, and
        TypeError for a payload without a JSON form."""

    @abc.abstractmethod
    def settle(self, outcome: Outcome) -> None:
        """End this delivery: send what is left to be sent, and record the outcome, in one step if the transport can.
        Only the first call counts: if a run was cut off and settled, its late end is ignored."""

    def begin(self) -> bool:
        """Called before the handler runs; False if it must not run any more."""
        return True

    def abandon(self, outcome: Outcome) -> None:
        """End it because the service stops: with this outcome, unless another replica can run it."""
        self.settle(outcome)

    def commit(self, pipe: Any) -> None:
        """See `Request.commit`."""
        raise Unsupported("this transport has no step in which commands could run with the outcome")

    def savepoint(self) -> int:
        """What `commit` has taken so far, for `rollback`."""
        return 0

    def rollback(self, savepoint: int) -> None:  # noqa: B027  # there is nothing to leave out
        """Leave out what `commit` has taken since."""


def last_words(reply: Reply, most: int) -> bytes:
    """A final reply as bytes; if it has more than `most`, its error text is cut."""
    data = reply.encode()
    if len(data) <= most:
        return data
    return dataclasses.replace(reply, payload={"error": reply.error_text[:SHORT_TEXT]}).encode()
