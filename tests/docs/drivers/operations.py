"""docs/operations.md"""

from __future__ import annotations

import json
import re

from tests.docs.drivers import drives
from tests.docs.pages import DOCS
from tests.docs.stage import Stage

PAGE = "operations.md"


@drives(PAGE, "shop", "shop-session", slow=True)
def shop(stage: Stage) -> None:
    process = stage.start("shop", DAEBUS_LOG_FORMAT="json")
    stage.session("shop-session")
    stage.caller("shop").send_request("buy")
    text = stage.shell(f"curl http://127.0.0.1:{stage.management}/metrics").stdout
    assert 'daebus_requests_total{kind="action",name="buy"} 1.0' in text
    promised = set(re.findall(r"`(daebus_[a-z_]+)`", (DOCS / PAGE).read_text()))
    there = set(re.findall(r"^# TYPE (daebus_[a-z_]+) ", text, re.MULTILINE))
    # A counter without labels appears with its first count; this one exists only in services with WebSockets.
    assert promised - {"daebus_websocket_clients"} == there
    assert process.terminate() == 0
    for line in process.lines:
        assert {"time", "level", "logger", "message"} <= set(json.loads(line)), line
    assert stage.shell("python -m daebus_runtime.health").returncode == 1


@drives(PAGE, "hooks")
def hooks(stage: Stage) -> None:
    with stage.service(redis_url=stage.redis.url):
        pass
    assert stage.client().get("last_stop")
