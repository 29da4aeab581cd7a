"""The same JSON answer from bare Falcon, for gunicorn's gevent_pywsgi worker."""

from typing import Any

import falcon
import orjson


class Hello:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = "application/json"
        response.data = orjson.dumps({"message": "hello", "number": 42})


app = falcon.App()
app.add_route("/hello", Hello())
