"""The rooms stand in one order: a later one imports earlier ones, never the reverse. The exceptions are listed here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import daebus_runtime

PACKAGE = Path(daebus_runtime.__file__).parent
ROOMS = (
    {"errors", "settings", "keys", "metrics", "children", "clock", "turn"},
    {"envelope", "codec", "logs", "losses"},
    {"transport"},
    {"dispatch"},
    {"context", "cron", "schedule", "zones", "registry", "patching", "running", "app", "blueprint", "caller"},
    {"servers"},
    {"runner", "gunicorn", "reload"},
    {"cli", "health", "testing", "__main__"},
)
# Both are made when the service starts, not when a module is imported.
LATE_EXCEPTIONS = {
    ("app", "runner"): "app.run() is what an author calls, and the runner is what starts everything",
    ("servers", "runner"): "gunicorn makes the worker, and the worker is the process that the runner runs in",
}


def room_of(module: str) -> int:
    """The number of the room of a module, given by its path from the package."""
    top = module.partition(".")[0]
    for number, room in enumerate(ROOMS):
        if top in room:
            return number
    raise AssertionError(f"{module} has no room yet: add it to this test and to docs/architecture.md")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__" or len(parts) == 1), path


def imports(module: str, path: Path) -> Iterator[tuple[str, bool, bool]]:
    """What a module imports of the package: (module, inside a function, for the type checker only)."""
    package = path.relative_to(PACKAGE).parts[:-1]

    def visit(node: ast.AST, late: bool, typing: bool) -> Iterator[tuple[str, bool, bool]]:
        for child in ast.iter_child_nodes(node):
            in_function = late or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            for_types = typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            if isinstance(child, ast.ImportFrom) and child.level:
                base = package[: len(package) - child.level + 1]
                if child.module:
                    yield ".".join((*base, child.module)), in_function, for_types
                else:
                    yield from ((".".join((*base, name.name)), in_function, for_types) for name in child.names)
            elif isinstance(child, (ast.Import, ast.ImportFrom)):
                names = [child.module or ""] if isinstance(child, ast.ImportFrom) else [n.name for n in child.names]
                assert not any(n.partition(".")[0] in ("daebus", "daebus_runtime") for n in names), (module, names)
            yield from visit(child, in_function, for_types)

    return visit(ast.parse(path.read_text()), False, False)


def test_every_module_has_a_room() -> None:
    for module, _ in modules():
        if module != "__init__":
            room_of(module)


def test_no_room_imports_a_later_one() -> None:
    wrong, used = [], set()
    for module, path in modules():
        if module == "__init__":
            continue  # the list of public names: it loads each at its first use
        for target, late, for_types in imports(module, path):
            if for_types or target in ("", "__version__") or room_of(target) <= room_of(module):
                continue
            exception = (module.partition(".")[0], target.partition(".")[0])
            if late and exception in LATE_EXCEPTIONS:
                used.add(exception)
            else:
                wrong.append(f"{module} imports {target}")
    assert not wrong
    assert used == set(LATE_EXCEPTIONS), "an exception that nobody needs any more"


def test_the_alias_package_holds_nothing_of_its_own() -> None:
    (path,) = (PACKAGE.parent / "daebus").glob("*.py")
    defined = [
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    assert defined == ["__getattr__", "__dir__"]


def test_modules_and_functions_stay_small() -> None:
    long = []
    for module, path in modules():
        text = path.read_text()
        if text.count("\n") > 400:
            long.append(f"{module}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 40:
                long.append(f"{module}.{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert not long
