"""The durable layer (docs/protocol.md, version 2): requests in a stream, competing replicas, recorded outcomes.

transport   Durable: sends, receives and answers; falls back to the compatible layer
outgoing    messages to one service: batches, repeats after a lost connection
membership  one replica of the own service: joins, comes back, is taken out, leaves      refusals    what it is refused
incoming    its messages: reads by credit, delivers, gives back
delivery    one of these messages               endings     how they end, in batches      commands    of `commit`
pulse       who is alive: signs of life, watching, burying
look        what waits for a service and who is there       backlog     its gauges
directory   all services of a server, for `services.py`     follow      the messages of services, for `daebus listen`
steps       the atomic steps, as an interface       redis (with vitals), memory   its implementations
script      the steps' Lua scripts, in `scripts/`
"""
