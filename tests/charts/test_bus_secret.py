"""The password of daebus-bus: generated once, kept by every upgrade, and never generated again by a mere rendering."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.charts.charts import BUS, Object, helm, one, render, service_pod
from tests.charts.cluster import Cluster, cluster

OURS = {"password": "abc", "url": "redis://:abc@daebus-bus:6379/0", "server.conf": "requirepass abc\n"}


@pytest.fixture
def there() -> Iterator[Cluster]:
    with cluster() as found:
        yield found


def kinds(objects: list[Object]) -> set[str]:
    return {item["kind"] for item in objects}


def data(objects: list[Object]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in one(objects, "Secret")["data"].items()}


def sums(objects: list[Object]) -> Any:
    return one(objects, "Deployment")["spec"]["template"]["metadata"].get("annotations")


def test_the_secret_holds_the_password_the_address_and_what_the_server_reads(there: Cluster) -> None:
    found = data(there.render(BUS))
    assert re.fullmatch(r"[A-Za-z0-9]{40}", found["password"])
    assert found == {
        "password": found["password"],
        "url": f"redis://:{found['password']}@daebus-bus:6379/0",
        "server.conf": f"requirepass {found['password']}\n",
    }


def test_every_installation_has_a_password_of_its_own(there: Cluster) -> None:
    assert data(there.render(BUS)) != data(there.render(BUS))


def test_the_password_is_in_no_other_object(there: Cluster) -> None:
    objects = there.render(BUS)
    assert data(objects)["password"] not in json.dumps([item for item in objects if item["kind"] != "Secret"])


def test_another_name_is_in_the_address_too(there: Cluster) -> None:
    assert data(there.render(BUS, {"nameOverride": "second"}))["url"].endswith("@second:6379/0")


def test_an_upgrade_keeps_the_password_and_the_server_running(there: Cluster) -> None:
    there.secret("daebus-bus", OURS, release="release")
    first, again = there.render(BUS), there.render(BUS, {"maxmemory": "48mb"})
    assert data(first) == data(again) == OURS
    assert sums(first) == sums(again)


def test_a_new_password_restarts_the_server_which_reads_it_only_at_its_start(there: Cluster) -> None:
    there.secret("daebus-bus", OURS, release="release")
    before = sums(there.render(BUS))
    there.secret("daebus-bus", {**OURS, "password": "new"}, release="release")
    assert before.keys() == {"checksum/secret"}
    assert sums(there.render(BUS)) != before


def test_naming_the_releases_own_secret_does_not_make_helm_delete_it(there: Cluster) -> None:
    """Helm deletes an object that was in the release and is no longer rendered."""
    there.secret("daebus-bus", {**OURS, "more": "of mine"}, release="release")
    assert data(there.render(BUS, {"existingSecret": "daebus-bus"})) == {**OURS, "more": "of mine"}


@pytest.mark.parametrize("release", ["", "another"])
def test_an_existing_secret_of_somebody_else_does_not_become_part_of_the_release(there: Cluster, release: str) -> None:
    there.secret("daebus-bus", OURS, release=release)
    assert "Secret" not in kinds(there.render(BUS, {"existingSecret": "daebus-bus"}))


def test_with_an_existing_secret_the_cluster_is_not_asked(there: Cluster) -> None:
    objects = there.render(BUS, {"existingSecret": "my-bus"})
    assert "Secret" not in kinds(objects)
    assert there.asked == []
    assert objects == render(BUS, {"existingSecret": "my-bus"})


def test_without_a_cluster_to_look_at_it_is_always_the_same_and_no_password_is_made() -> None:
    assert render(BUS) == render(BUS)
    assert "Secret" not in kinds(render(BUS))
    assert service_pod(render(BUS))["volumes"][0]["secret"]["secretName"] == "daebus-bus"


def test_where_an_existing_secret_cannot_be_seen_the_chart_refuses_with_the_cure(there: Cluster) -> None:
    """An installation that is to make the namespace; Argo CD, which knows a cluster's kinds and asks for no object."""
    there.objects.clear()
    with pytest.raises(
        helm.HelmError, match=r"Make the namespace first, or make the Secret and name it in existingSecr"
    ):
        there.install(BUS)
