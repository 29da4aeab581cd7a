"""docs/messaging.md"""

from __future__ import annotations

from typing import Any

import pytest
from daebus_runtime import RemoteError
from daebus_runtime.errors import RegistrationError

from tests.docs.drivers import drives
from tests.docs.pages import block
from tests.docs.stage import Stage

PAGE = "messaging.md"


@drives(PAGE, "calculator", "ask", slow=True)
def smallest(stage: Stage) -> None:
    stage.start("calculator")
    assert stage.finish("ask").strip() == "{'sum': 3}"
    with pytest.raises(RemoteError, match="b"):
        stage.caller("calculator").send_request("add", {"a": 1})


@drives(PAGE, "backup", "backup-caller")
def progress(stage: Stage) -> None:
    text = block(PAGE, "backup-caller").text
    shown = [line.strip("# ") for line in text.splitlines() if line.strip().startswith("#")]
    with stage.service(stage.load("backup")):
        printed: list[Any] = []
        names: dict[str, Any] = {"print": printed.append}
        exec("from daebus import DaebusCaller\n" + text, names)
        assert names["reply"] == {"parts": 2}
        assert [str(line) for line in printed] == shown


@drives(PAGE, "errors", slow=True)
def errors(stage: Stage) -> None:
    assert "service 'shop', action 'buy'" in stage.finish()
    assert "no such service is known" in stage.finish()
    shop = """
        from daebus import Daebus, response
        app = Daebus("shop")
        @app.action("buy")
        def buy():
            response.error("sold out")
        app.run()
    """
    process = stage.program(shop)
    assert stage.finish().strip() == "error sold out"
    process.terminate()
    assert stage.finish(DAEBUS_REDIS_URL=f"redis://127.0.0.1:{stage.port}").startswith("service 'shop', action 'buy'")


@drives(PAGE, "greenhouse")
def broadcasts(stage: Stage) -> None:
    with stage.service() as service:
        assert service.broadcast("sensors.roof", {"celsius": 31.5}) == 1
        service.broadcast("sensors.floor", {"celsius": 20})
        alarms = [message for channel, message in service.broadcasts if channel == "greenhouse.alarms"]
        assert alarms == [{"sensor": "sensors.roof", "celsius": 31.5}]


@drives(PAGE, "blocking")
def blocking(stage: Stage) -> None:
    with stage.service() as service:
        assert service.call("measure") == {"volts": 3.3}


@drives(PAGE, "blueprint")
def blueprint(stage: Stage) -> None:
    module = stage.load()
    with stage.service(module) as service:
        assert service.call("count") == {"tea": 3}
        assert service.http("GET", "/stock/tea").json == {"tea": 3}
        with pytest.raises(RegistrationError, match=r"(?s)blueprint\.py.*messaging\.py"):
            module.app.action("count")(lambda: None)
