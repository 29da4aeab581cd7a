"""The waiter: takes orders and has them cooked. Two services that call each other; see kitchen.py.

Start both, and order:

    python examples/kitchen.py
    python examples/waiter.py
    daebus call waiter order '{"dish": "soup", "table": 4}'
"""

import itertools

from daebus import Daebus, DaebusCaller, RemoteError, logger, request, response

app = Daebus("waiter")
kitchen = DaebusCaller("kitchen", timeout=10)

numbers = itertools.count(1)
tables = {}


@app.action("order")
def order():
    """Payload {"dish": text, "table": number}; passes progress on; answers {"order": number, "dish": text}."""
    number = next(numbers)
    tables[number] = request.payload["table"]
    try:
        cooked = kitchen.send_request("cook", {"dish": request.payload["dish"], "order": number}, on_progress=pass_on)
    except RemoteError as error:
        return response.error(f"sorry: {error}")
    return response.send({"order": number, "dish": cooked["dish"]})


def pass_on(progress):
    response.progress(progress)  # `response` still belongs to the order, also in functions that the handler calls


@app.action("table_of")
def table_of():
    """Payload {"order": number}; answers {"table": number}. The kitchen asks while `order` still waits for it."""
    return {"table": tables[request.payload["order"]]}


@app.listen("kitchen.ready")
def serve(message):
    logger.info("serving %s at table %s", message["dish"], message["table"])


if __name__ == "__main__":
    app.run()
