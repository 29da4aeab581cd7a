"""A kiosk at a counter: visitors take numbers, a screen shows whose turn it is, and how warm the room is.

Try it, in three terminals:

    python examples/kiosk.py           then open http://localhost:8080/ in two windows
    daebus call kiosk next
    python examples/thermometer.py     its values appear on the screen
"""

from daebus import Daebus, DaebusHttp, DaebusWebSocket, response

app = Daebus("kiosk")
websocket = DaebusWebSocket()
app.attach(DaebusHttp(port=8080))
app.attach(websocket)

state = {"serving": 0, "taken": 0, "celsius": None}

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Kiosk</title>
<style>
  :root { color-scheme: light dark; font: 2rem system-ui; text-align: center }
  #serving { font-size: 30vmin }
  button { font: inherit; padding: 1rem 2rem }
</style>
<h1>Now serving</h1>
<div id="serving" aria-live="polite">0</div>
<p><button id="take">Take a number</button> <output id="mine"></output></p>
<p id="celsius"></p>
<script>
  const show = (id, text) => { document.getElementById(id).textContent = text }
  const frames = {
    state: data => {
      show("serving", data.serving)
      show("celsius", data.celsius === null ? "" : `${data.celsius} °C`)
    },
    response: data => show("mine", `Yours: ${data.number}`),
  }
  function connect() {
    const socket = new WebSocket(`ws://${location.host}/ws`)
    socket.onmessage = event => { const {type, data} = JSON.parse(event.data); frames[type]?.(data) }
    socket.onclose = () => setTimeout(connect, 1000)
    document.getElementById("take").onclick = () => socket.send(JSON.stringify({type: "take"}))
  }
  connect()
</script>
"""


def show():
    """Send the present state to every screen. Every handler below may call this, whatever its trigger."""
    websocket.broadcast_to_all(state, message_type="state")


@app.route("/")
def page(req):
    return PAGE, 200, {"Content-Type": "text/html; charset=utf-8"}


@app.route("/state")
def current(req):
    return state


@app.socket_register()
def new_screen(data, client_id):
    websocket.send_to_client(client_id, state, message_type="state")


@app.socket("take")
def take(data, client_id):
    state["taken"] += 1
    return {"number": state["taken"]}


@app.action("next")
def next_visitor():
    if state["serving"] == state["taken"]:
        return response.error("nobody waits")
    state["serving"] += 1
    show()
    return response.send({"serving": state["serving"]})


@app.listen("sensors.room")
def measured(message):
    state["celsius"] = message["celsius"]
    show()


if __name__ == "__main__":
    app.run()
