"""The `daebus` command. Output and exit codes of all its commands are in output.py.

    serve.py    run                         target.py   which application is meant
    talk.py     call, send, listen          bus.py      which bus, and what is wrong with it
    ps.py       ps, register                table.py, screen.py   what ps shows, and where
    doctor.py   doctor                      ports.py    which program uses a port

Exit codes: 0 done; 1 the service answered with an error, or a fault was found; 2 wrong usage; 3 the bus cannot be
reached; 4 no answer, or not in time; 130 interrupted.
"""

from __future__ import annotations

import sys

from .. import signals

if sys.argv[1:2] == ["run"]:
    signals.heed_at_once()  # before the slow imports: a service that is asked to stop ends with code 0 at any moment

import click

from .. import __version__
from .output import EXIT_CODES, Group

# Each command and its file, which is loaded only for that command: its imports must not slow down the others.
COMMANDS = {
    "run": "serve",
    "call": "talk",
    "send": "talk",
    "listen": "talk",
    "ps": "ps",
    "register": "ps",
    "doctor": "doctor",
}

HELP = f"""Run services, and talk to those that run.

\b
  daebus run my_service.py                  serve; without a Redis, with one of its own
  daebus call my_service greet '{{"name": "Ada"}}'
  daebus listen 'sensors.*'                 watch broadcasts
  daebus send sensors.roof '{{"celsius": 21}}'
  daebus ps --watch                         who runs, and what waits
  daebus doctor my_service.py               what is wrong, and how to repair it

DAEBUS_REDIS_URL names the bus for all of them; `daebus COMMAND --help` tells more.

{EXIT_CODES}
"""


@click.group(cls=Group, homes=COMMANDS, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="daebus", message="%(prog)s %(version)s")
def main() -> None:
    pass
