"""Every program on every page of `docs/` runs and does what the page says."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.drivers import DRIVERS, SLOW
from tests.docs.drivers.kubernetes import IN_A_CLUSTER
from tests.docs.pages import DOCS, REPOSITORY, Block, blocks_of, pages, runnable
from tests.docs.stage import Stage

for module in sorted(Path(__file__).with_name("drivers").glob("[a-z]*.py")):
    importlib.import_module(f"tests.docs.drivers.{module.stem}")

NAMED = [block for block in runnable() if block.name is not None]


def one_for_each_driver() -> list[Any]:
    """The first block of each driver, since some drivers run several blocks at once."""
    chosen: dict[object, Block] = {}
    for block in NAMED:
        chosen.setdefault(DRIVERS.get((block.page, block.name or ""), block), block)
    return [
        pytest.param(block, id=f"{block.page}: {block.name}", marks=[pytest.mark.slow] if driver in SLOW else [])
        for driver, block in chosen.items()
    ]


@pytest.mark.parametrize("block", one_for_each_driver())
def test_program(block: Block, make_stage: Callable[[Block], Stage]) -> None:
    DRIVERS[block.page, block.name or ""](make_stage(block))


def test_every_block_is_run_or_says_why_not() -> None:
    silent = [str(block) for block in runnable() if block.name is None and block.excuse is None]
    assert not silent, "without <!-- run: name --> or <!-- shown: reason -->"
    unrun = [str(block) for block in runnable() if block.language == "python" and block.excuse is not None]
    assert not unrun, "python blocks are always run"


def test_every_block_has_a_driver_and_every_driver_a_block() -> None:
    marked = [(block.page, block.name) for block in NAMED]
    assert len(set(marked)) == len(marked), "two blocks of one page have the same name"
    assert set(marked) == set(DRIVERS)


def test_every_block_that_needs_a_cluster_is_run_on_one() -> None:
    excused = [block.text for block in runnable() if "tests/cluster" in (block.excuse or "")]
    assert len(excused) == len(IN_A_CLUSTER)
    assert all(any(text.startswith(f"$ {begins}") for text in excused) for begins in IN_A_CLUSTER)


def test_a_block_without_a_driver_is_found() -> None:
    text = "text\n\n```python\nprint()\n```\n\n<!-- run: x -->\n```python\nprint(1)\n```\n"
    assert [(block.line, block.name, block.text) for block in blocks_of(text, "x.md")] == [
        (4, None, "print()\n"),
        (9, "x", "print(1)\n"),
    ]


def test_a_language_with_a_hyphen_hides_no_block() -> None:
    text = "```yaml-template\nkind: Ingress\n```\n\n```console\n$ helm\n```\n"
    assert [(block.language, block.text) for block in blocks_of(text, "x.md")] == [
        ("yaml-template", "kind: Ingress\n"),
        ("console", "$ helm\n"),
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_page_is_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) < 200


def test_the_pages_python_is_formatted() -> None:
    command = [sys.executable, "-m", "ruff", "format", "--diff", str(DOCS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_link_between_pages_has_a_target() -> None:
    for page in [*pages(), REPOSITORY / "examples" / "README.md"]:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)]*)\)", page.read_text()):
            if "://" not in target:
                there = (page.parent / target) if target else page
                assert there.exists(), f"{page.name} links to {target}"
                assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links spell them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in pages() if page.name != "README.md" and f"({page.name})" not in index] == []
