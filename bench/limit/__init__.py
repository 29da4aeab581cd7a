"""The bare link: the rate that Redis and gevent allow for request and reply on this machine. RPC ratios divide by it.

It has no dispatch, deadlines, retries, limits or reconnecting. It was fixed at the start of the project and must not be
changed to improve a ratio. Every reply is checked by id and by value.
"""
