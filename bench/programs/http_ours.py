"""http_ours.py PORT: one JSON route and one WebSocket handler, on our server."""

import sys

from daebus import Daebus, DaebusHttp, DaebusWebSocket, response

app = Daebus(__name__)
app.attach(DaebusHttp(port=int(sys.argv[1]), host="127.0.0.1"))
app.attach(DaebusWebSocket())


@app.route("/hello")
def hello(req):
    return response.send({"message": "hello", "number": 42})


@app.socket("echo")
def echo(data, client_id):
    return data


app.run(service="bench_http")
