"""Services and the bus as parts of one chart: what Helm adds to their values passes, and libraries do not mix."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.charts.charts import BUS, Object, helm, refusal, render
from tests.template.rendering import copy_project

Umbrella = Callable[..., Path]


@pytest.fixture(scope="session")
def south_chart(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = copy_project(template, tmp_path_factory.mktemp("south") / "s", service_name="south", bus_mode="shared")
    return project / "helm" / "south"


@pytest.fixture
def umbrella(tmp_path: Path, service_chart: Path, south_chart: Path) -> Umbrella:
    """Makes a chart of the two services and the bus. `changes` go into the entries of its dependencies, by name."""

    def make(changes: Object | None = None, more: tuple[Object, ...] = (), values: Object | None = None) -> Path:
        chart = tmp_path / "garden"
        needs = [{"name": name, "version": "0.1.0", "repository": ""} for name in ("cold-store", "south", "daebus-bus")]
        needs = [{**need, **(changes or {}).get(need["name"], {})} for need in needs]
        (chart / "templates").mkdir(parents=True)
        for source in (service_chart, south_chart, BUS):
            shutil.copytree(source, chart / "charts" / source.name)
        about = {"apiVersion": "v2", "name": "garden", "version": "1.0.0", "dependencies": [*needs, *more]}
        (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
        (chart / "values.yaml").write_text(yaml.safe_dump(values or {}))
        return chart

    return make


def deployments(objects: list[Object]) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in objects if item["kind"] == "Deployment"}


def test_two_services_and_the_bus_are_what_they_are_alone(
    umbrella: Umbrella, service_chart: Path, south_chart: Path
) -> None:
    alone = [*render(service_chart), *render(south_chart), *render(BUS)]
    together = render(umbrella())

    def known(objects: list[Object]) -> list[tuple[str, str]]:
        return sorted((item["kind"], item["metadata"]["name"]) for item in objects)

    assert known(together) == known(alone)
    for name, found in deployments(together).items():
        assert found == deployments(alone)[name]


@pytest.mark.parametrize("off", ["cold-store", "south", "daebus-bus"])
def test_each_can_be_switched_off_by_condition(umbrella: Umbrella, off: str) -> None:
    names = ("cold-store", "south", "daebus-bus")
    chart = umbrella({name: {"condition": f"{name}.enabled"} for name in names})
    switched = {name: {"enabled": name != off} for name in names}
    assert deployments(render(chart, switched)).keys() == set(names) - {off}


@pytest.mark.parametrize("off", ["cold-store", "daebus-bus"])
def test_enabled_is_heeded_without_a_condition_too(umbrella: Umbrella, off: str) -> None:
    found = render(umbrella(), {off: {"enabled": False}})
    assert off not in {item["metadata"]["name"] for item in found}
    assert len(deployments(found)) == 2


def test_tags_and_global_values_pass(umbrella: Umbrella, service_chart: Path) -> None:
    chart = umbrella({"daebus-bus": {"tags": ["bus"]}, "south": {"tags": ["bus"]}})
    values = {"tags": {"bus": False}, "global": {"imageRegistry": "registry.local", "anything": {"a": [1]}}}
    assert deployments(render(chart, values)).keys() == {"cold-store"}
    for alone in (service_chart, BUS):
        assert render(alone, values) == render(alone)


def test_an_alias_names_the_objects_of_a_service(umbrella: Umbrella) -> None:
    again = {"name": "south", "alias": "south_again", "version": "0.1.0", "repository": ""}
    found = deployments(render(umbrella(more=(again,)), {"south_again": {"port": 8123}}))
    assert found.keys() == {"cold-store", "south", "south-again", "daebus-bus"}
    [container] = found["south-again"]["spec"]["template"]["spec"]["containers"]
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (told["DAEBUS_SERVICE"], told["DAEBUS_HTTP_PORT"]) == ("south", "8123")


def test_an_alias_does_not_hide_the_bus_from_the_services(umbrella: Umbrella) -> None:
    found = deployments(render(umbrella({"daebus-bus": {"alias": "bus"}}), {"bus": {"maxmemory": "32mb"}}))
    assert "daebus-bus" in found


def test_the_umbrellas_own_values_are_those_of_its_parts(umbrella: Umbrella) -> None:
    chart = umbrella(values={"south": {"replicaCount": 3, "resources": {"limits": {"memory": None}}}})
    found = deployments(render(chart))["south"]
    assert found["spec"]["replicas"] == 3
    assert "replicas: 2" in yaml.safe_dump(deployments(render(chart, {"south": {"replicaCount": 2}}))["south"])


@pytest.mark.parametrize("other", ["cold-store", "south", "daebus-bus"])
def test_two_versions_of_the_library_in_one_release_are_refused(umbrella: Umbrella, other: str) -> None:
    """Helm's template names are global: one of the two would silently render both."""
    chart = umbrella()
    library = chart / "charts" / other / "charts" / "daebus"
    for file in (library / "Chart.yaml", library / "templates" / "_values.tpl"):
        file.write_text(file.read_text().replace("0.1.0", "0.2.0"))
    text = refusal(chart, {})
    assert "of the library daebus inside, but version" in text
    assert 'Bring the charts of one release to the same version, with "copier update"' in text


def test_a_library_from_before_it_knew_its_version_is_noticed_as_well(umbrella: Umbrella) -> None:
    """Whichever of the two renders: the old one finds no defaults, the new one another version."""
    chart = umbrella()
    library = chart / "charts" / "south" / "charts" / "daebus"
    (library / "values.yaml").write_text((library / "defaults.yaml").read_text())
    (library / "defaults.yaml").unlink()
    (library / "Chart.yaml").write_text((library / "Chart.yaml").read_text().replace("0.1.0", "0.0.9"))
    with pytest.raises(helm.HelmError, match=r"has version 0\.0\.9 of the library daebus inside, but version 0\.1\.0"):
        render(chart)


def test_a_copy_of_a_template_is_no_template(service_chart: Path, tmp_path: Path) -> None:
    """What editors, merges and file managers leave: Helm would render it too."""
    left = (
        *("all.yaml~", "all.yaml.bak", "all.yaml.orig", "all.yaml.rej", "all.yaml.2026", "all.yaml_", ".all.yaml.swp"),
        *(
            "#all.yaml#",
            ".#all.yaml",
            "all (copy).yaml",
            "all copy.yaml",
            "all.yml.save",
            "all_BACKUP_77.yaml",
            "x.tmp",
        ),
    )
    for source in (service_chart, BUS):
        chart = shutil.copytree(source, tmp_path / source.name)
        for name in left:
            shutil.copy(chart / "templates" / "all.yaml", chart / "templates" / name)
        # Of the library inside too.
        shutil.copy(chart / "charts/daebus/templates/_pod.tpl", chart / "charts/daebus/templates/pod.tpl~")
        assert render(chart) == render(source)


def test_a_copy_under_a_good_name_is_refused(service_chart: Path, tmp_path: Path) -> None:
    for source in (service_chart, BUS):
        chart = shutil.copytree(source, tmp_path / source.name)
        shutil.copy(chart / "templates" / "all.yaml", chart / "templates" / "everything.yaml")
        text = refusal(chart, {})
        assert "templates/all.yaml" in text
        assert "templates/everything.yaml" in text
        assert "both render everything: remove the one that is a copy" in text
