"""The commands about known services: `ps` and `register`."""

from __future__ import annotations

import contextlib
import difflib
import sys
import time
from collections.abc import Iterator, Sequence

import click

from .. import forms, settings
from ..errors import BusUnavailable
from ..services import Census, ServiceInfo
from . import bus, output, screen, table

SECONDS = output.Number(forms.seconds(0.1, 3600), "a number of seconds, 0.1 to 3600")
LOOK_SECONDS = 0.5  # as in talk.py: a longer wait could miss Ctrl-C


@click.command()
@click.argument("services", metavar="[SERVICE]...", nargs=-1)
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option("--interval", type=SECONDS, default=2.0, show_default=True, metavar="SECONDS", help="For --watch.")
@click.option("--json", is_flag=True, help="One JSON list; with --watch one a line.")
@bus.bus_option
@click.pass_context
def ps(
    ctx: click.Context, services: Sequence[str], watch: bool, interval: float, json: bool, redis_url: str | None
) -> None:
    """Show the services on the bus, their replicas, and what waits for them.

    LAG is the number of messages that no replica has read, PENDING of those that were read and are not done, OLDEST the
    age of the oldest of both. A replica without a sign of life for 3 seconds is shown as silent. PROTOCOL 1: somebody
    only listens on the channel of this name, as programs on the original Daebus do. "garden events" is the queue of
    garden's durable events. With SERVICE, each replica is shown. "?" is what cannot be known, for example because a
    clock was set back.

    \b
    Examples:
      daebus ps
      daebus ps garden shop --watch
      daebus ps --json | jq '.[] | select(.lag > 100) | .name'
    """
    names = [settings.parse("service", name, "SERVICE") for name in services]
    with _census(redis_url) as (address, census):
        if watch:
            with output.until_interrupted():
                _watch(census, names, interval, json, address)
            return
        found = census.services(names)
        if json:
            output.result([service.as_dict() for service in found])
        elif found:
            for line in _lines(found, bool(names)):
                click.echo(line)
        _remarks(census, address, found, names)
        if set(names) - {service.name for service in found}:
            ctx.exit(output.NO_ANSWER)


@click.command()
@click.argument("services", metavar="SERVICE...", nargs=-1, required=True)
@bus.bus_option
def register(services: Sequence[str], redis_url: str | None) -> None:
    """Make SERVICEs known before they first run, so that what is sent to them is stored.

    Without this, a call to a service that never ran fails at once. A service stays known for 90 days after its last
    replica. To repeat it changes nothing, except that the 90 days begin anew.

    \b
    Examples:
      daebus register garden
      daebus register garden shop --redis-url redis://bus:6379
    """
    names = list(dict.fromkeys(settings.parse("service", name, "SERVICE") for name in services))
    with _census(redis_url) as (_, census):
        made = census.register(names)
    for name in names:
        output.tell(f"{name}: known from now on" if name in made else f"{name}: was known already")


@contextlib.contextmanager
def _census(option: str | None) -> Iterator[tuple[bus.Address, Census]]:
    address = bus.named_address(option) or bus.default_address()
    problem = bus.check(address.url)
    if problem is not None:
        raise output.Failure(output.UNREACHABLE, str(problem))
    with Census(address.url) as census:
        yield address, census


def _lines(found: Sequence[ServiceInfo], detailed: bool) -> list[str]:
    encoding = getattr(sys.stdout, "encoding", None)
    return table.lines(table.rows(found, detailed), screen.width(), encoding, screen.has_colours())


def _remarks(census: Census, address: bus.Address, found: Sequence[ServiceInfo], names: Sequence[str]) -> None:
    if census.unheard is not None:
        output.say(f"names without a known service are not shown: {census.unheard}", fg="yellow")
    if not found and not names:
        output.say(f"no service is known at {address}", fg="yellow")
    missing = set(names) - {service.name for service in found}
    known = [service.name for service in census.services()] if missing else []
    for name in sorted(missing):
        near = difflib.get_close_matches(name, known, 3, 0.5)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        output.say(f"no service {name!r} is known at {address}{hint}", fg="yellow")


def _watch(census: Census, names: Sequence[str], interval: float, json: bool, address: bus.Address) -> None:
    found: list[ServiceInfo] = []
    away = ""
    with screen.drawn():
        while True:
            next_time = time.monotonic() + interval
            try:
                found, now_away = census.services(names), ""
            except BusUnavailable as error:
                now_away = f"the bus is away ({error}); trying again"
            if not json:
                about = f"{address}, every {interval:g} s; Ctrl-C ends"
                screen.draw(_lines(found, bool(names)), output.safe(now_away or about))
            elif not now_away:
                output.line([service.as_dict() for service in found])
            elif not away:
                output.say(now_away, fg="yellow")
            away = now_away
            while (left := next_time - time.monotonic()) > 0:
                time.sleep(min(left, LOOK_SECONDS))
