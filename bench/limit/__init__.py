"""The bare link: what Redis and gevent allow for request and reply on this machine. The denominator of every RPC ratio.

Fixed at the start of the project and not changed to suit afterwards: no dispatch, no deadlines, no retries, no limits,
no reconnecting. Every reply is checked by id and by value.
"""
