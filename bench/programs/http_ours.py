"""http_ours.py PORT: JSON routes, a large answer and one WebSocket handler, on our server."""

import sys

from daebus import Daebus, DaebusHttp, DaebusWebSocket, response

LARGE = b"x" * 1_048_576
app = Daebus(__name__)
app.attach(DaebusHttp(port=int(sys.argv[1]), host="127.0.0.1"))
app.attach(DaebusWebSocket())


@app.route("/hello")
def hello(req):
    return response.send({"message": "hello", "number": 42})


@app.route("/size", methods=["POST"])
def size(req):
    return {"size": len(req.body)}


@app.route("/large")
def large(req):
    return LARGE, 200, {"Content-Type": "text/plain"}


@app.socket("echo")
def echo(data, client_id):
    return data


app.run(service="bench_http")
