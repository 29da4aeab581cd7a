"""Runs what `on_start` and `on_stop` declare, one after the other."""

from __future__ import annotations

from . import context
from .dispatch.guard import FAULTS
from .logs import runtime_logger
from .registry import Hook, Registry


def run_hooks(app: context.Service, registry: Registry, kind: str) -> None:
    """Run the hooks of a kind in the order of declaration. One that fails is logged; the others run."""
    for hook in registry.all(Hook):
        if hook.kind == kind:
            try:
                context.call_in_context(context.Context(app), hook.function)
            except FAULTS:
                runtime_logger.exception("a hook failed: %s at %s", kind, hook.where)
