"""The durable layer (docs/protocol.md, version 2): requests in a stream, competing replicas, recorded outcomes.

transport   Durable: sends, receives and answers; falls back to the compatible layer
outgoing    messages to one service: batches, repeats after a lost connection
incoming    messages of the own service: reads by credit, ends in batches
pulse       who is alive: signs of life, watching, burying
look        what waits for a service and who is there       backlog     its gauges
directory   all services of a server, for `services.py`     follow      the messages of services, for `daebus listen`
steps       the atomic steps, as an interface       redis, memory   its implementations
script      the steps' Lua scripts, in `scripts/`
"""
