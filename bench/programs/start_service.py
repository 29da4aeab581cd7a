"""A service with an action, a route and a socket, for `bench.start`: a program, and a module with an `app`."""

from daebus import Daebus, DaebusHttp, DaebusWebSocket, response

app = Daebus("bench_start")
app.attach(DaebusHttp())
app.attach(DaebusWebSocket())


@app.action("hello")
def answer():
    return response.send({"message": "hello"})


@app.route("/hello")
def hello(req):
    return response.send({"message": "hello"})


@app.socket("echo")
def echo(data, client_id):
    return data


if __name__ == "__main__":
    app.run()
