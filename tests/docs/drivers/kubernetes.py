"""docs/kubernetes.md"""

from __future__ import annotations

import shlex

import pytest

from tests.docs.drivers import drives
from tests.docs.stage import Stage, commands
from tests.template.rendering import copy_project, plain_template

PAGE = "kubernetes.md"
# How the blocks begin that tests/cluster/test_as_it_is_written.py runs.
IN_A_CLUSTER = (
    "make image chart",
    "kubectl create namespace",
    "docker pull",
    "helm install daebus-bus",
    "helm upgrade",
)


@drives(PAGE, "refused")
def refused(stage: Stage) -> None:
    """Does with the Helm SDK what the command would do, since not every machine has a `helm`."""
    helm = pytest.importorskip("helm_python", reason="the Helm SDK has no wheel for this platform")
    template = plain_template(stage.directory / "template")
    project = copy_project(template, stage.directory / "my_service", service_name="my_service")
    [(command, shown)] = commands(stage.block.text)
    program, verb, release, chart, flag, setting = shlex.split(command)
    assert (program, verb, flag) == ("helm", "template", "--set")
    with pytest.raises(helm.HelmError) as refusal:
        helm.Chart.load(str(project / chart)).render(helm.values_from_yaml(setting.replace("=", ": ")), name=release)
    assert shown == f"Error: {refusal.value}"
