"""The modules ("rooms") have one order: a later one imports earlier ones, never the reverse, without exception."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import daebus_runtime

PACKAGE = Path(daebus_runtime.__file__).parent
ROOMS = (
    {
        "errors",
        "forms",
        "settings",
        "keys",
        "metrics",
        "children",
        "clock",
        "turn",
        "signals",
        "cutoff",
        "descriptors",
        *("native", "partial", "aside", "exposition", "collector"),
    },
    {"envelope", "codec", "logs", "losses", "printable"},
    {"transport"},
    {"dispatch"},
    {
        *(
            "context",
            "schedule",
            "registry",
            "patching",
            "processes",
            "running",
            "clients",
            "application",
        ),
        *("blueprint", "caller", "services"),
    },
    {"servers"},
    {"runner", "hooks", "first_lines", "twice", "worker", "master", "reload"},
    {"launch"},
    {"app", "gunicorn"},
    {"cli", "health", "testing", "__main__"},
)


def room_of(module: str) -> int:
    """The position of a module's room, by the module's path inside the package."""
    top = module.partition(".")[0]
    for number, room in enumerate(ROOMS):
        if top in room:
            return number
    raise AssertionError(f"{module} has no room yet: add it to this test and to docs/architecture.md")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__" or len(parts) == 1), path


def imports(path: Path) -> Iterator[str]:
    """All that a module imports from the package, also inside functions and under TYPE_CHECKING."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [name.name for name in node.names]
            yield from (".".join((*base, name)) for name in names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
            assert not any(n.partition(".")[0] in ("daebus", "daebus_runtime") for n in names), (path, names)


def test_every_module_has_a_room() -> None:
    for module, _ in modules():
        if module != "__init__":
            room_of(module)


def test_no_room_imports_a_later_one() -> None:
    wrong = [
        f"{module} imports {target}"
        for module, path in modules()
        if module != "__init__"  # the list of public names: it imports each at its first use
        for target in imports(path)
        if target not in ("", "__version__") and room_of(target) > room_of(module)
    ]
    assert not wrong


def test_the_http_application_knows_of_websockets_the_endpoint_alone() -> None:
    known = [target for target in imports(PACKAGE / "servers/http/application.py") if "websocket" in target]
    assert known == ["servers.websocket.endpoint"]


def test_the_alias_package_holds_nothing_of_its_own() -> None:
    (path,) = (PACKAGE.parent / "daebus").glob("*.py")
    defined = [
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    assert defined == ["__getattr__", "__dir__"]


def test_modules_and_functions_stay_small() -> None:
    long, sizes = [], []
    for module, path in modules():
        text = path.read_text()
        if text.count("\n") > 361:
            long.append(f"{module}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                sizes.append((node.end_lineno or 0) - node.lineno + 1)
                if sizes[-1] > 40:
                    long.append(f"{module}.{node.name}: {sizes[-1]} lines")
    assert not long
    assert statistics.quantiles(sizes, n=10)[-1] <= 25, "90 % of all functions are within 25 lines"
