"""The same answers from bare Falcon ASGI, for uvicorn."""

from typing import Any

import falcon.asgi
import orjson

LARGE = b"x" * 1_048_576


class Hello:
    async def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "application/json"
        response.data = orjson.dumps({"message": "hello", "number": 42})


class Size:
    async def on_post(self, request: Any, response: Any) -> None:
        response.content_type = "application/json"
        response.data = orjson.dumps({"size": len(await request.stream.read())})


class Large:
    async def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "text/plain"
        response.data = LARGE


app = falcon.asgi.App()
app.add_route("/hello", Hello())
app.add_route("/size", Size())
app.add_route("/large", Large())
