"""The command that serves: `run`."""

from __future__ import annotations

import click

from . import target as targets


@click.command()
@click.argument("target", metavar="TARGET")
@click.option("--reload", is_flag=True, help="Start again when a Python file changes (needs watchfiles).")
def run(target: str, reload: bool) -> None:
    """Serve the application in TARGET until Ctrl-C or SIGTERM.

    TARGET is module:app, file.py or file.py:app; without a name the one application in it is taken. The current
    directory can be imported from. Settings come from DAEBUS_* variables; without a Redis one is started.

    \b
    Examples:
      daebus run my_service.py
      daebus run my_service.app:app --reload
      DAEBUS_HTTP_PORT=9000 daebus run my_service.py
    """
    from .. import signals

    try:
        signals.heed()
        _run(target, reload)
    except signals.Asked:
        return  # before it served anything


def _run(target: str, reload: bool) -> None:
    from .. import reload as reloading
    from ..patching import patch

    folder = targets.folder(target)
    if reload and not reloading.is_child():
        reloading.supervise([folder] if folder else [])
    # Before the target is imported, so that everything it imports is cooperative.
    patch()
    app = targets.load(target)
    if app.has_run:
        return  # the file runs its application when it is imported, and that has ended
    app.run()
