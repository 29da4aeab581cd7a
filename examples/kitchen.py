"""The kitchen: cooks for the waiter, and asks him whom a dish is for. See waiter.py."""

import time

from daebus import Daebus, DaebusCaller, broadcast, logger, request, response

app = Daebus("kitchen")
waiter = DaebusCaller("waiter")

RECIPES = {"soup": ["chop", "boil", "season"], "salad": ["wash", "chop"]}
STEP_SECONDS = 0.2


@app.action("cook")
def cook():
    """Payload {"dish": text, "order": number}; progress for each step; answers {"dish": …, "steps": number}."""
    dish, order = request.payload["dish"], request.payload["order"]
    if dish not in RECIPES:
        return response.error(f"nobody here can cook {dish}")
    for done, step in enumerate(RECIPES[dish], start=1):
        time.sleep(STEP_SECONDS)
        response.progress({"step": step}, percentage=round(100 * done / len(RECIPES[dish])))
    table = waiter.send_request("table_of", {"order": order})["table"]
    logger.info("%s for table %s is ready", dish, table)
    broadcast.send("kitchen.ready", {"dish": dish, "table": table})
    return response.send({"dish": dish, "steps": len(RECIPES[dish])})


if __name__ == "__main__":
    app.run()
