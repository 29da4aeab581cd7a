"""The management port: what /livez, /readyz and /metrics answer; without its setting the port stays closed."""

from __future__ import annotations

import re

import pytest
import requests
from daebus_runtime import Daebus, native
from daebus_runtime.testing import TestApp
from prometheus_client.parser import text_string_to_metric_families

from tests.support.ports import accepts, free_port


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    number = free_port()
    monkeypatch.setenv("DAEBUS_MANAGEMENT_PORT", str(number))
    monkeypatch.setenv("DAEBUS_MANAGEMENT_HOST", "127.0.0.1")
    return number


def make_app() -> Daebus:
    app = Daebus("garden")

    @app.action("water")
    def water() -> str:
        return "watered"

    @app.action("dig")
    def dig() -> str:
        raise ValueError("rock")

    return app


def ask(port: int, path: str, method: str = "GET") -> requests.Response:
    return requests.request(method, f"http://127.0.0.1:{port}{path}", timeout=5)


def test_a_ready_service_answers_200(port: int) -> None:
    with TestApp(make_app()):
        assert (ask(port, "/livez").status_code, ask(port, "/livez").json()) == (200, {"live": True})
        assert (ask(port, "/readyz").status_code, ask(port, "/readyz").json()) == (200, {"ready": True, "reasons": []})
    assert not accepts(port)


def test_a_draining_service_is_alive_and_not_ready(port: int) -> None:
    with TestApp(make_app()) as service:
        service.runner.begin_drain()
        assert ask(port, "/livez").status_code == 200
        answer = ask(port, "/readyz")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert re.match("draining", answer.json()["reasons"][0])


def test_metrics_are_written_in_an_os_thread_so_that_many_handlers_do_not_hold_the_loop(port: int) -> None:
    with TestApp(make_app()) as service:
        loop = native.get_ident()
        service.app.metrics.gauge("in_the_loop", "", lambda: float(native.get_ident() == loop))
        assert "\nin_the_loop 0.0\n" in ask(port, "/metrics").text


def test_metrics_are_prometheus_text(port: int) -> None:
    with TestApp(make_app()) as service:
        for _ in range(3):
            service.call("water")
        with pytest.raises(Exception, match="rock"):
            service.call("dig")
        answer = ask(port, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, sample.labels.get("name"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["daebus_requests_total", "water", None] == 3
    assert samples["daebus_request_errors_total", "dig", None] == 1
    assert samples["daebus_request_seconds_bucket", "water", "+Inf"] == 3
    for name in ("queue_length", "in_flight", "bus_up", "ready", "loop_lag_seconds", "bus_reconnects_total"):
        assert (f"daebus_{name}", None, None) in samples


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/livez", "POST", 405)])
def test_anything_else_is_refused(port: int, path: str, method: str, status: int) -> None:
    with TestApp(make_app()):
        assert ask(port, path, method).status_code == status
        head = ask(port, "/livez", "HEAD")
        assert (head.status_code, head.text) == (200, "")


def test_without_the_setting_there_is_no_port() -> None:
    with TestApp(make_app()) as service:
        assert service.runner.management is None
