"""The namespaces of these tests really refuse forbidden pods; otherwise "nothing was refused" would prove nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cluster.kubernetes import Namespace
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cluster


def test_a_privileged_pod_is_refused_and_reported(make_namespace: Callable[[str], Namespace]) -> None:
    space = make_namespace("refusals")
    labels = {"app": "root"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "root", "image": "none"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    root = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "root"}, "spec": spec}
    with pytest.raises(AssertionError, match="would violate PodSecurity"):
        space.kubectl("create", "--filename", "-", stdin=json.dumps(root))
    wait_until(space.refusals, 30, "an event that says so")
    assert space.get("pods")["items"] == []
