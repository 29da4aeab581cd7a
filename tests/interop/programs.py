"""The programs of these tests: one service text that runs on the original and on ours, and a caller on the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support import wire
from tests.support.process import ServiceProcess
from tests.support.redis_server import HOST, RedisServer
from tests.support.waiting import wait_until

# The original's `broadcast` always uses localhost:6379, whatever run() was given: send it to the test's Redis instead.
ORIGINAL_ONLY = """
import os
import redis

PORT = int(os.environ["REDIS_PORT"])

class TestRedis(redis.Redis):
    def __init__(self, host="localhost", port=6379, **options):
        super().__init__(host="127.0.0.1", port=PORT, **options)

redis.Redis = redis.StrictRedis = TestRedis
"""

SERVICE = """
import os
import time
from daebus import Daebus, DaebusCaller, broadcast, request, response

NAME, OTHER, PORT = os.environ["NAME"], os.environ["OTHER"], int(os.environ["REDIS_PORT"])
app = Daebus(__name__)
heard = []

@app.action("echo")
def echo():
    return response.send(request.payload)

@app.action("fail")
def fail():
    return response.error("no such order: " + str(request.payload.get("order")))

@app.action("fail_softly")
def fail_softly():
    response.error("still trying", final=False)
    return response.send({"tried": 2})

@app.action("raise")
def raise_():
    raise ValueError("on purpose")

@app.action("silent")
def silent():
    return None

@app.action("steps")
def steps():
    response.progress({"step": 1}, 25)
    response.progress({"step": 2}, 50)
    response.send({"step": 3}, final=False)
    return response.send({"steps": 3})

@app.action("relay")
def relay():
    caller = DaebusCaller(OTHER, redis_host="127.0.0.1", redis_port=PORT, timeout=5)
    try:
        return response.send({"via": NAME, "answer": caller.send_request("echo", request.payload)})
    finally:
        caller.close()

@app.action("announce")
def announce():
    return response.send({"receivers": broadcast.send("news", {"from": NAME, **request.payload})})

@app.action("note")
def note():
    heard.append({"noted": request.raw, "payload": request.payload})

@app.action("heard")
def tell_heard():
    return response.send(heard)

@app.action("forget")
def forget():
    heard.clear()
    return response.send({})

@app.listen("news")
def news(data):
    heard.append(data)

app.run(service=NAME, redis_host="127.0.0.1", redis_port=PORT)
"""

CALLER = """
import json, logging, sys, time
from daebus import DaebusCaller
from concurrent.futures import ThreadPoolExecutor

logging.disable(logging.CRITICAL)
service, calls, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
caller = DaebusCaller(service, redis_host="127.0.0.1", redis_port=PORT, timeout=5)

def run(call):
    method, arguments, options = call
    progress, begun = [], time.monotonic()
    if method == "send_request":
        options["on_progress"] = progress.append
    try:
        outcome = {"result": getattr(caller, method)(*arguments, **options)}
    except Exception as error:
        outcome = {"error": type(error).__name__, "text": str(error)}
    return {**outcome, "progress": progress, "seconds": time.monotonic() - begun}

with ThreadPoolExecutor(threads) as pool:
    for outcome in pool.map(run, calls):
        print("OUTCOME", json.dumps(outcome), flush=True)
caller.close()
"""


def start_service(
    redis: RedisServer, directory: Path, name: str, other: str, *, original: Path | None = None
) -> ServiceProcess:
    """Start the service: on the original with its interpreter, on ours without one."""
    env = {"NAME": name, "OTHER": other, "REDIS_PORT": str(redis.port)}
    if original is None:
        return ServiceProcess(SERVICE, directory=directory, env=env, name=f"{name}.py")
    # With this checkout on the PYTHONPATH, Python would import our alias package instead of the original.
    return ServiceProcess(
        ORIGINAL_ONLY + SERVICE, directory=directory, env=env | {"PYTHONPATH": None}, name=f"{name}.py", python=original
    )


def wait_for_service(redis: RedisServer, process: ServiceProcess, name: str) -> None:
    """Returns once the service has subscribed to its requests and to the news."""

    def listening() -> bool:
        assert process.running, f"{name} has ended:\n{process.output}"
        with redis.client() as client:
            return wire.subscribers(client, name) == 1

    wait_until(listening, 15, lambda: f"{name} to be up. It said:\n{process.output}")


class OriginalCaller:
    """The original's DaebusCaller; each list of calls runs in a new process."""

    def __init__(self, redis: RedisServer, directory: Path, python: Path) -> None:
        assert redis.url.startswith(f"redis://{HOST}"), "the original knows neither TLS nor passwords"
        self._redis, self._directory, self._python = redis, directory, python

    def run(
        self, service: str, *calls: tuple[str, list[Any], dict[str, Any]], threads: int = 1
    ) -> list[dict[str, Any]]:
        """Each call is (method, arguments, options); an outcome has `result` or `error` and `text`, `progress`,
        `seconds`. With one thread they run in their order."""
        with ServiceProcess(
            ORIGINAL_ONLY + CALLER,
            directory=self._directory,
            env={"REDIS_PORT": str(self._redis.port), "PYTHONPATH": None},
            arguments=[service, json.dumps(calls), str(threads)],
            name="original_caller.py",
            python=self._python,
        ) as process:
            code = process.wait(60)
            outcomes = [json.loads(line.partition(" ")[2]) for line in process.lines if line.startswith("OUTCOME ")]
            assert code == 0, process.output
            assert len(outcomes) == len(calls), process.output
            return outcomes

    def request(self, service: str, action: str, payload: Any, **options: Any) -> dict[str, Any]:
        """The outcome of one `send_request`."""
        (outcome,) = self.run(service, ("send_request", [action, payload], options))
        return outcome
