"""The library inside each service's chart: real files, one version, one schema, every value documented."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import values_table
from tests.charts.charts import BUS, LIBRARY, REPOSITORY, helm, render
from tests.template.rendering import FEATURES, copy_project

SOURCE = REPOSITORY / "template" / "helm" / "{{ chart_name }}"


def test_a_copy_contains_the_library_as_real_files(service_chart: Path) -> None:
    assert (SOURCE / "charts" / "daebus").is_symlink()
    assert not any(path.is_symlink() for path in service_chart.rglob("*"))
    for name in (
        "Chart.yaml",
        "defaults.yaml",
        *(f"templates/{path.name}" for path in (LIBRARY / "templates").iterdir()),
    ):
        assert (service_chart / "charts" / "daebus" / name).read_text() == (LIBRARY / name).read_text()


def test_a_services_chart_has_twelve_files(service_chart: Path) -> None:
    """Files that an installation does not need, such as the library's README, stay in the template."""
    files = {str(path.relative_to(service_chart)) for path in service_chart.rglob("*") if path.is_file()}
    own = {
        ".helmignore",
        "Chart.yaml",
        "values.yaml",
        "values.schema.json",
        "templates/all.yaml",
        "templates/NOTES.txt",
    }
    templates = ("checks", "pod", "values", "workload")
    library = {"Chart.yaml", "defaults.yaml", *(f"templates/_{name}.tpl" for name in templates)}
    assert files == own | {f"charts/daebus/{name}" for name in library}


def test_the_vendored_version_is_the_required_one(service_chart: Path, tmp_path: Path) -> None:
    """Neither lint nor an installation would notice another version."""
    [dependency] = helm.dependency_list(str(service_chart))
    assert (dependency["name"], dependency["status"]) == ("daebus", "unpacked")
    other = shutil.copytree(service_chart, tmp_path / "chart")
    library = other / "charts" / "daebus" / "Chart.yaml"
    library.write_text(library.read_text().replace("version: 0.1.0", "version: 0.0.9"))
    [dependency] = helm.dependency_list(str(other))
    assert dependency["status"] == "wrong version"


def test_a_package_holds_the_library(service_chart: Path, tmp_path: Path) -> None:
    packed = helm.Chart.load(str(service_chart)).save(str(tmp_path))
    assert render(Path(packed)) == render(service_chart)


@pytest.mark.parametrize("mode", ["sidecar", "shared"])
@pytest.mark.parametrize("feature", [*FEATURES, "none"])
def test_every_feature_and_mode_has_a_chart_that_lints_and_renders(
    template: Path, tmp_path: Path, feature: str, mode: str
) -> None:
    features = [feature] if feature != "none" else []
    project = copy_project(
        template, tmp_path / "p", service_name="a", features=features, bus_mode=mode, image_registry="r.local:5000/team"
    )
    chart = project / "helm" / "a"
    assert helm.lint(str(chart), strict=True)["errors"] == []
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert values["port"] == (8080 if feature in ("http", "websocket") else 0)
    assert values["bus"] == {"mode": mode}
    assert values["image"]["repository"] == "r.local:5000/team/a"
    assert ("route" in values["test"]) is (feature == "http")
    assert len(render(chart)) == 4


def test_a_services_values_are_few(service_chart: Path) -> None:
    assert len((service_chart / "values.yaml").read_text().splitlines()) <= 25


@pytest.mark.parametrize("chart", [LIBRARY, BUS], ids=lambda chart: chart.name)
def test_the_table_of_values_matches_the_comments(chart: Path) -> None:
    assert (chart / "README.md").read_text() == values_table.filled(chart), (
        "run: python -m scripts.values_table --write"
    )


@pytest.mark.parametrize("chart", [LIBRARY, BUS], ids=lambda chart: chart.name)
def test_every_value_has_a_sentence(chart: Path) -> None:
    comments = values_table.described(values_of(chart).read_text())
    for path, comment in comments.items():
        assert comment[0].isupper() or comment.startswith(("`", "null")), path
        assert comment.endswith("."), path


def test_a_value_without_a_comment_is_found(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("# A sentence.\nknown: 1\n\nmap:\n  # Another.\n  inner: 2\n  silent: 3\n")
    with pytest.raises(ValueError, match=r"map\.silent has no comment"):
        values_table.table(tmp_path)


@pytest.mark.parametrize("chart", [LIBRARY, BUS], ids=lambda chart: chart.name)
def test_schema_and_defaults_know_the_same_values(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load(values_of(chart).read_text())
    comments = set(values_table.described(values_of(chart).read_text()))
    there = {path for path, _ in values_table.leaves(values, comments)}
    known = set(schema_paths(schema, schema, comments))
    assert known - there == {"daebus", "global", "tags"}
    assert there - known == set()


@pytest.mark.parametrize("chart", [LIBRARY, BUS], ids=lambda chart: chart.name)
def test_the_schema_is_closed_except_for_types_of_kubernetes(chart: Path) -> None:
    schema = json.loads((chart / "values.schema.json").read_text())
    opened = {name for name, part in objects_of("values", schema) if part.get("additionalProperties", True) is True}
    assert opened == {"daebus", "global", "tags", "open", "items"} | ({"payload", "strategy"} & opened)


def values_of(chart: Path) -> Path:
    return chart / values_table.VALUES[chart]


def schema_paths(schema: dict[str, Any], part: dict[str, Any], comments: set[str], above: str = "") -> Iterator[str]:
    """Every value that a schema names, by dotted path; one that has a comment is one value, whatever is in it."""
    for name, inner in part["properties"].items():
        found = schema["definitions"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
        if "properties" in found and f"{above}{name}" not in comments:
            yield from schema_paths(schema, found, comments, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def objects_of(name: str, part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a schema that describes an object, with its name."""
    if not isinstance(part, dict):
        return
    if "object" in part.get("type", ()):
        yield name, part
    if "items" in part:
        yield from objects_of("items", part["items"])
    for key in ("properties", "definitions"):
        for inner_name, inner in part.get(key, {}).items():
            yield from objects_of(inner_name, inner)
