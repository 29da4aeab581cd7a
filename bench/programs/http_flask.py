"""The same small JSON answer from Flask, for gunicorn's gevent_pywsgi worker."""

import flask
import orjson

app = flask.Flask(__name__)


@app.get("/hello")
def hello() -> flask.Response:
    return flask.Response(orjson.dumps({"message": "hello", "number": 42}), content_type="application/json")
