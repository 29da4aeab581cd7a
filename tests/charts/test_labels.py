"""Labels are what Kubernetes takes for every legal name, version and tag."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.charts.charts import BUS, Object, helm, render

VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
SERVICE = st.from_regex(r"[a-z]([a-z0-9_-]{0,38}[a-z0-9])?", fullmatch=True)
# YAML takes some names for something else, when they are not in quotation marks.
WORDS = st.sampled_from(["", "on", "no", "true", "null", "y"])
OVERRIDE = st.from_regex(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?", fullmatch=True) | WORDS
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
# Semantic versions with pre-releases and build parts, as long as they like.
VERSION = st.from_regex(
    r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})"
    r"(-[a-zA-Z][0-9A-Za-z-]{0,30}(\.[a-zA-Z][0-9A-Za-z-]{0,30}){0,2})?(\+[0-9A-Za-z-]{1,30}(\.[0-9A-Za-z-]{1,20}){0,2})?",
    fullmatch=True,
)
RELEASE = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?", fullmatch=True) | st.sampled_from(["0", "1e3", "null"])
# A failing example is small enough as it is: to shrink it takes minutes.
MANY = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
in_both_runs = pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.long)])


def all_labels(objects: list[Object]) -> list[tuple[str, str]]:
    found = [item["metadata"]["labels"] for item in objects]
    found += [item["spec"]["template"]["metadata"]["labels"] for item in objects if item["kind"] == "Deployment"]
    found += [item["spec"]["selector"]["matchLabels"] for item in objects if item["kind"] == "Deployment"]
    return [pair for labels in found for pair in labels.items()]


def check(objects: list[Object]) -> None:
    for name, value in all_labels(objects):
        assert isinstance(value, str)
        assert VALUE.fullmatch(value), name
        assert len(value) <= 63, name
    for item in objects:
        assert isinstance(item["metadata"]["name"], str)
        assert len(item["metadata"]["name"]) <= 63


@pytest.fixture(scope="module")
def versions(service_chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(service_chart, tmp_path_factory.mktemp("versions") / "chart")


@in_both_runs
def test_of_a_service(versions: Path, count: int) -> None:
    about = yaml.safe_load((versions / "Chart.yaml").read_text())

    @settings(MANY, max_examples=count)
    @given(name=SERVICE, override=OVERRIDE, tag=TAG, version=VERSION, release=RELEASE)
    def try_one(name: str, override: str, tag: str, version: str, release: str) -> None:
        about.update(name=name.replace("_", "-"), version=version, appVersion=version)
        (versions / "Chart.yaml").write_text(yaml.safe_dump(about))
        check(render(versions, {"service": name, "nameOverride": override, "image": {"tag": tag}}, name=release))

    try_one()


@in_both_runs
def test_of_the_shared_bus(count: int) -> None:
    @settings(MANY, max_examples=count)
    @given(override=OVERRIDE, tag=TAG, release=RELEASE)
    def try_one(override: str, tag: str, release: str) -> None:
        check(render(BUS, {"fullnameOverride": override, "image": {"tag": tag}}, name=release))

    try_one()


@pytest.mark.parametrize(
    ("name", "version", "tag"),
    [
        ("a" * 40, "0.1.0-alpha1.20240101.5", "_foo"),
        ("a" * 40, "0.1.0-alpha1.2024010.5x-", "__"),
        ("a" * 40, "1.0.0+" + "b" * 40, "-".join(["1"] * 60)),
        ("a", "0.1.0", 20240101123456),
    ],
)
def test_of_what_was_once_wrong(versions: Path, name: str, version: str, tag: str | int) -> None:
    about = yaml.safe_load((versions / "Chart.yaml").read_text())
    about.update(name=name, version=version, appVersion="0.1.0")
    (versions / "Chart.yaml").write_text(yaml.safe_dump(about))
    check(render(versions, {"service": name, "image": {"tag": tag}}))


@pytest.mark.parametrize("app_version", ["1.0.0+build", "the first one", "-1"])
def test_an_app_version_that_is_no_tag_is_refused_where_it_would_be_one(versions: Path, app_version: str) -> None:
    about = yaml.safe_load((versions / "Chart.yaml").read_text())
    about.update(name="a", version="1.0.0", appVersion=app_version)
    (versions / "Chart.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(helm.HelmError, match=r"cannot be an image's tag: set image\.tag or image\.digest"):
        render(versions, {"service": "a"})
    check(render(versions, {"service": "a", "image": {"digest": "sha256:" + "0" * 64}}))
