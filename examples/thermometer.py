"""A thermometer: reads its sensor in an OS thread, broadcasts changes, and answers requests.

    python examples/thermometer.py
    daebus listen 'sensors.*'
    daebus call thermometer read
    daebus call thermometer set_interval '{"seconds": 0.1}'

It reads the processor's temperature where Linux offers it, and invents one elsewhere.
"""

import math
import time
from pathlib import Path

from daebus import Daebus, broadcast, cache, request, response

app = Daebus("thermometer")

ZONE = Path("/sys/class/thermal/thermal_zone0/temp")
state = {"celsius": None, "interval": 1.0}


def read_sensor():
    """Degrees Celsius. A driver that blocks in C would be called here; in an OS thread it delays nobody."""
    try:
        return round(int(ZONE.read_text()) / 1000, 1)
    except (OSError, ValueError):
        return round(21 + 5 * math.sin(time.time() / 10), 1)


@app.thread("sensor", native=True)
def sensor(running):
    while running():
        celsius = read_sensor()
        if celsius != state["celsius"]:
            state["celsius"] = celsius
            cache.set("thermometer:celsius", celsius, ex=60)
            broadcast.send("sensors.room", {"celsius": celsius, "at": time.time()})
        time.sleep(state["interval"])


@app.action("read")
def read():
    return {"celsius": state["celsius"]}


@app.action("set_interval")
def set_interval():
    """Payload {"seconds": number from 0.05 to 10}; answers with the new setting."""
    seconds = request.payload.get("seconds")
    if not isinstance(seconds, int | float) or not 0.05 <= seconds <= 10:
        return response.error("seconds is a number from 0.05 to 10")
    state["interval"] = float(seconds)
    return response.send({"seconds": state["interval"]})


if __name__ == "__main__":
    app.run()
