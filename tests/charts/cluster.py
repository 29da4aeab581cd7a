"""A stand-in for a cluster's API: it answers with the objects that a test put there, and records the requests.

Helm's own code asks it, so a chart's use of `lookup` can be tested without a cluster.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gevent
import yaml

from tests.charts.charts import Object, helm

NAMESPACE = "garden"
KINDS = [("namespaces", "Namespace", False), ("secrets", "Secret", True)]
FIXED: dict[str, Object] = {
    "/version": {"major": "1", "minor": "33", "gitVersion": "v1.33.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "groups": []},
}


class Cluster:
    """Objects by their paths, such as `namespaces/garden/secrets/bus`."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.asked: list[str] = []
        self.url = ""

    def secret(self, name: str, data: dict[str, str], release: str = "") -> None:
        """Adds a Secret; with `release` it has the marks that Helm gives to objects of that release."""
        metadata: Object = {"name": name, "namespace": NAMESPACE}
        if release:
            metadata["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
            metadata["annotations"] = {"meta.helm.sh/release-name": release}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        found = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded}
        self.objects[f"namespaces/{NAMESPACE}/secrets/{name}"] = found

    def render(self, chart: Path, values: Object | None = None, name: str = "release") -> list[Object]:
        """Every object that an installation or upgrade would send."""
        with helm.Config(kube_apiserver=self.url, namespace=NAMESPACE, kubeconfig_content=KUBECONFIG) as config:
            words = {"name": name, "namespace": NAMESPACE}
            texts = beside(config.render, helm.Chart.load(str(chart)), values or {}, **words)
        found = [yaml.safe_load_all(text) for path, text in texts.items() if not path.endswith("NOTES.txt")]
        return [item for documents in found for item in documents if item]

    def install(self, chart: Path, values: Object | None = None) -> None:
        """An installation up to the rendered objects. It always ends with HelmError, since nothing can be created."""
        with helm.Config(kube_apiserver=self.url, namespace=NAMESPACE, kubeconfig_content=KUBECONFIG) as config:
            beside(config.install, str(chart), "release", values or {}, namespace=NAMESPACE, dry_run="server")

    def answer(self, path: str) -> Object | None:
        self.asked.append(path)
        if path == "/api/v1":
            kinds = [{"name": name, "kind": kind, "namespaced": own, "verbs": ["get"]} for name, kind, own in KINDS]
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": kinds}
        if path in FIXED:
            return FIXED[path]
        return self.objects.get(path.removeprefix("/api/v1/"))


def beside(function: Callable[..., Any], *arguments: Any, **words: Any) -> Any:
    """Runs Helm's code in another thread: it blocks its thread, and the stand-in needs gevent's loop to answer."""
    return gevent.get_hub().threadpool.apply(function, arguments, words)


KUBECONFIG = yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []})


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster with an empty namespace in which charts are rendered."""
    there = Cluster()
    there.objects[f"namespaces/{NAMESPACE}"] = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = there.answer(self.path.partition("?")[0])
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            body = json.dumps(found or status).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        there.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            yield there
        finally:
            server.shutdown()
