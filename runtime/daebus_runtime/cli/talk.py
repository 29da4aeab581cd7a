"""The commands that use the bus: `call`, `send`, `listen`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any

import click

from .. import codec, forms, keys, settings
from ..caller import DaebusCaller
from ..context.broadcasts import publish_object
from ..transport import State
from ..transport.compatible import Compatible
from ..transport.durable.follow import Follower
from ..transport.redis import RedisBus
from . import bus, output

CONFIRM_SECONDS = 5.0
# A wait without end could miss Ctrl-C: a signal that arrives just before the thread sleeps is handled only afterwards.
LOOK_SECONDS = 0.5
SECONDS = output.Number(forms.seconds(0.001, 31_536_000), "a number of seconds, 0.001 to 31,536,000")
COUNT = output.Number(forms.integer(1, 10**9), "a number, 1 to 1,000,000,000")


@click.command()
@click.argument("service")
@click.argument("action")
@click.argument("payload", metavar="[JSON]", default="{}")
@click.option("--timeout", type=SECONDS, default=5.0, show_default=True, metavar="SECONDS", help="How long to wait.")
@bus.bus_option
def call(service: str, action: str, payload: str, timeout: float, redis_url: str | None) -> None:
    """Call an ACTION of a SERVICE and print its reply.

    JSON is the payload, by default {}; "-" reads it from standard input. The reply goes to standard output, indented on
    a terminal and on one line elsewhere; progress goes to standard error.

    \b
    Examples:
      daebus call garden water '{"plant": "fern"}'
      daebus call reports build --timeout 60 > report.json
      generate | daebus call reports import -
    """
    value = output.parse_json(payload, "JSON")
    service = settings.parse("service", service, "SERVICE")
    with bus.connected(redis_url) as (address, transport):
        bus.expect_service(transport, address, service)
        caller = DaebusCaller(service, redis_url=address.url, timeout=timeout)
        reply = caller.send_request(action, value, on_progress=_progress)
    output.result(reply)


def _progress(payload: Any) -> None:
    percentage = payload.get("progress_percentage") if isinstance(payload, dict) else None
    share = f"{percentage:g} % " if isinstance(percentage, (int, float)) else ""
    output.say(f"progress: {share}{codec.dumps(payload).decode()}", dim=True)


@click.command()
@click.argument("channel")
@click.argument("payload", metavar="JSON")
@click.option("--durable", is_flag=True, help="Store it for the services that listen durably on CHANNEL.")
@bus.bus_option
def send(channel: str, payload: str, durable: bool, redis_url: str | None) -> None:
    """Broadcast a JSON object on a CHANNEL and print how many received it: {"receivers": 2}.

    JSON is an object; "-" reads it from standard input. With --durable the event is stored for each service that has a
    durable listener on the channel, whether it runs now or not: {"services": 1}.

    \b
    Examples:
      daebus send weather '{"rain": true}'
      daebus send orders '{"plant": "sage"}' --durable
      sensor | daebus send sensors.roof -
    """
    value = output.parse_json(payload, "JSON")
    if not isinstance(value, dict):
        raise click.BadParameter(f"a broadcast is an object: {{...}}, not {payload[:60]}", param_hint="JSON")
    _check_channel(channel)
    with bus.connected(redis_url) as (_, transport):
        receivers = publish_object(transport, channel, value, durable)
    output.line({"services" if durable else "receivers": receivers})
    if not receivers:
        output.say(f"{'no service listens durably' if durable else 'nobody listens'} on {channel}", fg="yellow")


@click.command()
@click.argument("channels", metavar="CHANNEL...", nargs=-1, required=True)
@click.option("--count", type=COUNT, metavar="N", help="End after N messages.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="End after this time.")
@bus.bus_option
@click.pass_context
def listen(
    ctx: click.Context, channels: Sequence[str], count: int | None, timeout: float | None, redis_url: str | None
) -> None:
    """Print what is broadcast on CHANNELs, one JSON object a line, until Ctrl-C.

    A channel may be a pattern (*, ?, [...]); quote it. A line is {"channel": ..., "payload": ...}, or "raw" in place of
    "payload" for what is no JSON. For the name of a service these are the requests that it receives; under load some
    are done before they can be shown. Losing the bus is said and survived. With --count, fewer messages than that
    within --timeout are exit code 4.

    \b
    Examples:
      daebus listen weather
      daebus listen 'sensors.*' --count 10 --timeout 60
      daebus listen garden        # the requests that a service receives
    """
    for channel in channels:
        _check_channel(channel)
    deadline = None if timeout is None else time.monotonic() + timeout
    with bus.connected(redis_url) as (address, transport), output.until_interrupted():
        arrived = _subscribe(transport, channels)
        output.say(f"listening on {' '.join(channels)} at {address}; Ctrl-C ends", dim=True)
        seen = _print(arrived, count, deadline)
        if count is not None and seen < count:
            output.say(f"{seen} of {count} messages came within {timeout:g} s", fg="yellow")
            ctx.exit(output.NO_ANSWER)


def _check_channel(channel: str) -> None:
    try:
        keys.check_channel(channel)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CHANNEL") from None


def _subscribe(transport: Compatible, channels: Sequence[str]) -> SimpleQueue[tuple[str, bytes]]:
    """A queue of everything that arrives on the channels; returns once the server has confirmed all of them."""
    arrived: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
    subscriptions = [
        transport.subscribe(name, lambda *message: arrived.put(message)) for name in dict.fromkeys(channels)
    ]
    follower = _follow(transport, channels, arrived)
    deadline = time.monotonic() + CONFIRM_SECONDS
    while not (all(subscription.confirmed for subscription in subscriptions) and follower.ready):
        if time.monotonic() > deadline:
            raise output.Failure(output.UNREACHABLE, f"the bus did not confirm within {CONFIRM_SECONDS:g} s")
        time.sleep(0.01)
    if follower.refused is not None:
        output.say(f"requests that are stored for a service are not shown: {follower.refused}", fg="yellow")
    was = [State.UP]

    def changed(state: State, reason: str) -> None:
        if (state is State.UP) != (was[0] is State.UP) and state is not State.CLOSED:
            text = "the bus is back" if state is State.UP else f"the bus is away ({reason}); trying again"
            output.say(text, fg="green" if state is State.UP else "yellow")
        was[0] = state

    transport.watch(changed)
    return arrived


def _follow(transport: Compatible, channels: Sequence[str], arrived: SimpleQueue[tuple[str, bytes]]) -> Follower:
    """Requests to services are in streams, not on their channels. Each name may be that of a service."""
    assert isinstance(transport.bus, RedisBus)
    names = [name for name in dict.fromkeys(channels) if not keys.is_pattern(name)]
    return Follower(transport.bus, names, lambda *message: arrived.put(message))


def _print(arrived: SimpleQueue[tuple[str, bytes]], count: int | None, deadline: float | None) -> int:
    """Print messages until there are `count` or the deadline has passed; returns their number."""
    seen = 0
    while count is None or seen < count:
        left = math.inf if deadline is None else deadline - time.monotonic()
        try:
            channel, data = arrived.get(timeout=max(0.0, min(left, LOOK_SECONDS)))
        except Empty:
            if left > LOOK_SECONDS:
                continue
            break
        try:
            output.line({"channel": channel, "payload": codec.loads(data)})
        except ValueError:
            output.line({"channel": channel, "raw": data.decode("utf-8", "replace")})
        seen += 1
    return seen
