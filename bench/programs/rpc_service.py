"""rpc_service.py NAME PORT: an echo service. The same source runs on the original and on ours."""

import sys

from daebus import Daebus, request, response

app = Daebus(__name__)


@app.action("echo")
def echo():
    return response.send(request.payload)


app.run(service=sys.argv[1], redis_host="127.0.0.1", redis_port=int(sys.argv[2]))
