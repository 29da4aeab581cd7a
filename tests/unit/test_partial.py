"""Parts of a package are imported without the package, and whoever imports the package finds it whole."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daebus_runtime.partial import import_parts

Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Writes a package of its own for each test; its `__init__` counts how often it is executed."""
    names: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**files: str) -> str:
        name = f"package_{tmp_path.name}_{len(names)}".replace("-", "_")
        names.append(name)
        (tmp_path / name).mkdir()
        start = "import sys\nsys.executed = [*getattr(sys, 'executed', []), __name__]\n"
        for file, text in {"init": "", "part": "VALUE = object()\n", **files}.items():
            text = (start + text if file == "init" else text).replace("PACKAGE", name)
            (tmp_path / name / f"{'__init__' if file == 'init' else file}.py").write_text(text)
        importlib.invalidate_caches()
        return name

    before = list(sys.meta_path)
    yield make
    sys.meta_path[:] = before
    sys.__dict__.pop("executed", None)
    for module in [m for m in sys.modules if m.partition(".")[0] in names]:
        del sys.modules[module]


def executed() -> list[str]:
    return list(getattr(sys, "executed", []))


def load(name: str) -> Any:
    return importlib.import_module(name)


def test_the_package_is_executed_by_the_first_that_imports_it(make: Make) -> None:
    name = make(init="from .part import VALUE\nfrom .other import OTHER\n", other="OTHER = 1\n")
    import_parts(name, "part")
    part = sys.modules[f"{name}.part"]
    assert (executed(), name in sys.modules, f"{name}.other" in sys.modules) == ([], False, False)
    package = load(name)
    assert executed() == [name]
    assert package.part is part
    assert package.VALUE is part.VALUE
    assert package.OTHER == 1


def test_afterwards_it_is_a_module_like_any_other(make: Make) -> None:
    name, before = make(), list(sys.meta_path)
    import_parts(name, "part")
    package = load(name)
    assert type(package) is type(sys)
    assert package.__loader__ is package.__dict__["__spec__"].loader
    assert type(package.__loader__).__name__ == "SourceFileLoader"
    assert sys.meta_path == before
    assert importlib.reload(package) is package
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_a_part_that_is_asked_for_later_finds_the_package_executed(make: Make) -> None:
    name = make(init="READY = 1\n", later="from PACKAGE import READY, part\n")
    import_parts(name, "part")
    assert load(f"{name}.later").part is sys.modules[f"{name}.part"]
    assert executed() == [name]


def test_a_part_may_hold_the_package(make: Make) -> None:
    name = make(init="READY = 1\n", part="import PACKAGE\n\ndef ready():\n    return PACKAGE.READY\n")
    import_parts(name, "part")
    part = sys.modules[f"{name}.part"]
    assert executed() == []
    assert (part.ready(), part.ready()) == (1, 1)
    assert (executed(), sys.modules[name]) == ([name], getattr(part, name))


@pytest.mark.parametrize("part", ["from PACKAGE import READY\n", "import PACKAGE\nPACKAGE.READY\n"])
def test_parts_that_need_the_package_get_it_at_once(make: Make, part: str) -> None:
    name = make(init="READY = 1\n", part=part)
    import_parts(name, "part")
    assert executed() == [name]
    assert load(f"{name}.part")
    assert sys.modules[name].READY == 1


def test_parts_that_another_version_does_not_have_are_no_error(make: Make) -> None:
    name = make(init="READY = 1\n")
    import_parts(name, "part", "gone")
    assert (executed(), load(name).READY) == ([name], 1)


def test_a_package_that_was_imported_before_is_left_alone(make: Make) -> None:
    name = make()
    package, before = load(name), list(sys.meta_path)
    import_parts(name, "part")
    assert (sys.modules[name], executed(), sys.meta_path) == (package, [name], before)
    assert f"{name}.part" not in sys.modules


def test_a_package_that_is_not_there_is_reported_by_its_import() -> None:
    import_parts("no_such_package", "part")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load("no_such_package.part")


def test_a_package_that_fails_fails_for_everybody_that_imports_it(make: Make) -> None:
    name = make(init="raise RuntimeError('broken')\n")
    import_parts(name, "part")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            load(name)
    assert executed() == [name, name]


def test_threads_that_import_it_at_the_same_time_all_find_it_whole(make: Make) -> None:
    slow = "import time\nfor _ in range(30):\n    time.sleep(0)  # lets the other threads run\n"
    before = list(sys.meta_path)
    for _ in range(20):
        name = make(init=f"{slow}from .part import VALUE\n", part=f"{slow}VALUE = 1\n")
        together = threading.Barrier(5)
        seen: list[Any] = []

        def look(name: str = name, together: threading.Barrier = together, seen: list[Any] = seen) -> None:
            together.wait()
            package = load(name)
            seen.append((package, package.VALUE, package.part.VALUE))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        together.wait()
        import_parts(name, "part")
        for thread in threads:
            thread.join()
        assert seen == [(load(name), 1, 1)] * 4
        assert executed().count(name) == 1
        assert sys.meta_path == before
