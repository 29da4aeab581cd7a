"""The same answers from bare Falcon, for gunicorn's workers: a small JSON answer, a body in, a large answer out."""

from typing import Any

import falcon
import orjson

LARGE = b"x" * 1_048_576


class Hello:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "application/json"
        response.data = orjson.dumps({"message": "hello", "number": 42})


class Size:
    def on_post(self, request: Any, response: Any) -> None:
        response.content_type = "application/json"
        response.data = orjson.dumps({"size": len(request.bounded_stream.read())})


class Large:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "text/plain"
        response.data = LARGE


app = falcon.App()
app.add_route("/hello", Hello())
app.add_route("/size", Size())
app.add_route("/large", Large())
