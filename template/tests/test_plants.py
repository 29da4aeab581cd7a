import pytest
from daebus_runtime.testing import TestApp


def test_the_root_lists_the_routes(service: TestApp) -> None:
    routes = service.http("GET", "/").json["routes"]
    assert routes["/plants"] == ["GET"]
    assert routes["/plants/<name>/water"] == ["POST"]


def test_the_whole_garden(service: TestApp) -> None:
    answer = service.http("GET", "/plants")
    assert answer.status == 200
    assert answer.json == {"plants": {"basil": 60, "mint": 45, "tomato": 30}, "thirsty": []}


def test_one_plant(service: TestApp) -> None:
    assert service.http("GET", "/plants/mint").json == {"plant": "mint", "moisture": 45}


def test_watering_calls_the_action_over_the_bus(service: TestApp) -> None:
    answer = service.http("POST", "/plants/mint/water")
    assert (answer.status, answer.json) == (200, {"plant": "mint", "moisture": 70})
    assert [(message["action"], message["payload"]) for _service, message in service.sent] == [
        ("water", {"plant": "mint"})
    ]


def test_watering_over_a_real_bus(service_on_a_bus: TestApp) -> None:
    answer = service_on_a_bus.http("POST", "/plants/basil/water")
    assert (answer.status, answer.json) == (200, {"plant": "basil", "moisture": 85})


@pytest.mark.parametrize(("method", "path"), [("GET", "/plants/rose"), ("POST", "/plants/rose/water")])
def test_an_unknown_plant_is_not_found(service: TestApp, method: str, path: str) -> None:
    answer = service.http(method, path)
    assert (answer.status, answer.json["error"]) == (404, "no 'rose' grows here")
