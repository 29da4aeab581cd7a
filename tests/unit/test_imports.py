"""What a service does not import, and that whoever imports it all the same finds the real thing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # they start programs of their own

NOT_FOR_A_SERVICE = (*("redis", "redis.client", "redis.commands", "redis.cluster", "redis.asyncio"),)


def run(program: str) -> str:
    """The last line that a Python program of its own prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n").rpartition("\n")[2]


REDIS = """
import pickle, redis, redis.asyncio, redis.asyncio.client
from daebus_runtime.transport import redispy
assert redispy.RedisError is redis.RedisError is redis.exceptions.RedisError
assert redispy.Connection is redis.Connection is redis.connection.Connection
assert redis.asyncio.Redis is redis.asyncio.client.Redis
assert issubclass(redis.AuthenticationError, redispy.RedisError)
assert isinstance(pickle.loads(pickle.dumps(redispy.ResponseError("no"))), redis.ResponseError)
assert pickle.loads(pickle.dumps(redis.asyncio.Redis)) is redis.asyncio.Redis
assert type(redis) is type(pickle) and redis.__version__ and redis.utils
"""


@pytest.mark.parametrize(
    "before",
    [
        "from daebus import Daebus",
        "from daebus import DaebusCaller",
        "import redis; from daebus import Daebus",
        "import redis.asyncio; from daebus import Daebus",
        "import redis.exceptions; from daebus import Daebus",
        "from daebus import Daebus; import redis.client",
        "from daebus import Daebus; from redis.asyncio import Redis",
        "from daebus import Daebus; import redis.observability.attributes as a; assert a.redis.__version__",
        "from daebus import DaebusCaller, Daebus, cache",
        "from gevent import monkey; monkey.patch_all(); import redis; from daebus import Daebus",
    ],
)
def test_whoever_imports_redis_finds_the_real_thing(before: str) -> None:
    run(f"{before}\n{REDIS}")


def test_who_names_the_cache_does_not_wait_for_its_client_in_a_handler() -> None:
    assert run("import sys; from daebus import cache; print('redis.client' in sys.modules)") == "True"


@pytest.mark.parametrize("names", ["Daebus, DaebusHttp, DaebusWebSocket, request, response, broadcast", "DaebusCaller"])
def test_what_nobody_uses_is_not_imported(names: str) -> None:
    program = f"import sys\nfrom daebus import {names}\nprint(*(m for m in {NOT_FOR_A_SERVICE!r} if m in sys.modules))"
    assert run(program) == ""


@pytest.mark.parametrize("module", ["app", "gunicorn"])
def test_the_collector_is_what_the_program_made_it(module: str) -> None:
    look = f"from daebus_runtime import {module}; assert gc.isenabled()"
    assert run(f"import gc; {look} is True; print('fine')") == "fine"
    assert run(f"import gc; gc.disable(); {look} is False; print('fine')") == "fine"
