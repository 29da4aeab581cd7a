"""The connection, `Upgrade`, `Expect`, and answers without a body."""

from __future__ import annotations

from tests.servers.raw import handshake_fields

from .rule import FOLLOWING, chunks, get, kept, last, post, refused

# --- RFC 9112, 9: the connection
kept(
    "9112 9.3",
    "1.1 stays open",
    get(b"/"),
    get(b"/", b"Connection: keep-alive"),
    get(b"/", b"Connection: x"),
    get(b"/", b"Connection:"),
)
last(
    "9112 9.6",
    "unless the client says close",
    *(
        get(b"/", b"Connection: " + value)
        for value in (
            b"close",
            b"Close",
            b"CLOSE",
            b"x, close",
            b"close, keep-alive",
            b"keep-alive,close",
            b" ,close,,",
            b"TE,\tclose",
        )
    ),
    get(b"/", b"Connection: keep-alive", b"Connection: close"),
)
last("9112 9.6", "also without such a path", get(b"/nowhere", b"Connection: close"), status=404)
kept(
    "9110 7.6.1",
    "other options do not close",
    get(b"/", b"Connection: closed"),
    get(b"/", b"Connection: x-close, clos"),
)
last("9112 9.3", "1.0 ends", get(b"/", version=b"HTTP/1.0"), get(b"/", b"Connection: x", version=b"HTTP/1.0"))
kept(
    "9112 9.3",
    "unless the client says keep-alive",
    get(b"/", b"Connection: keep-alive", version=b"HTTP/1.0"),
    get(b"/", b"Connection: Keep-Alive, x", version=b"HTTP/1.0"),
    said="Connection: keep-alive",
)
kept("9112 9.3.2", "pipelined requests are answered in order", get(b"/") * 2, status=(200, 200))
kept("9112 9.3.2", "also many", get(b"/") * 40, status=(200,) * 40)
kept(
    "9112 9.3.2",
    "also with bodies",
    post(b"Content-Length: 5", body=b"12345") + chunks(b"1\r\nx\r\n0\r\n\r\n"),
    status=(200, 200),
)
kept(
    "9112 9.3.2",
    "also when some fail",
    get(b"/nowhere") + post(b"Content-Length: 1", target=b"/", body=b"x"),
    status=(404, 405),
)
last("9112 9.6", "nothing is answered after the last one", get(b"/", b"Connection: close") + get(b"/"), status=200)
last("9112 9.6", "nothing is answered after a refusal", get(b"/") + get(b"/%") + get(b"/"), status=(200, 400))
kept(
    "9112 9.3",
    "a body that nobody reads does not become a request",
    post(b"Content-Length: %d" % len(FOLLOWING), target=b"/", body=FOLLOWING),
    status=405,
)
last(
    "9112 9.3",
    "a chunked one ends the connection",
    post(b"Transfer-Encoding: chunked", target=b"/", body=b"0\r\n\r\n"),
    status=405,
)

# --- RFC 9110, 7.8 and 10.1.1: Upgrade and Expect
kept(
    "9110 7.8",
    "other protocols are ignored",
    get(b"/", b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"),
    get(b"/", b"Upgrade: TLS/1.0"),
)
kept("9110 7.8", "without the option too", get(b"/", b"Upgrade: websocket"))
last("9110 7.8", "in HTTP/1.0 as well", get(b"/", b"Upgrade: websocket", b"Connection: upgrade", version=b"HTTP/1.0"))
HANDSHAKE = [field.encode() for field in handshake_fields()]
kept("6455 4.2.1", "a WebSocket where there is none", get(b"/", *HANDSHAKE), status=400)
kept(
    "9110 10.1.1",
    "100 before a body that is wanted",
    post(b"Expect: 100-continue", b"Content-Length: 5", body=b"12345"),
    status=(100, 200),
)
kept(
    "9110 10.1.1", "in any case", post(b"expect: 100-Continue", b"Content-Length: 5", body=b"12345"), status=(100, 200)
)
kept(
    "9110 10.1.1",
    "also before chunks",
    post(b"Expect: 100-continue", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    status=(100, 200),
)
kept(
    "9110 10.1.1",
    "not without a body",
    post(b"Expect: 100-continue"),
    get(b"/", b"Expect: 100-continue"),
    get(b"/", b"Expect:"),
)
last(
    "9110 10.1.1",
    "not in HTTP/1.0",
    post(b"Expect: 100-continue", b"Content-Length: 5", body=b"12345", version=b"HTTP/1.0"),
)
last(
    "9110 10.1.1",
    "not for a body that nobody reads",
    post(b"Expect: 100-continue", b"Content-Length: 5", target=b"/nowhere"),
    status=404,
)
refused(
    "9110 15.5.18",
    "another expectation is 417",
    *(
        post(b"Expect: " + value, b"Content-Length: 0")
        for value in (b"a-miracle", b"100", b"100-continue, x", b"100-continue=1", b"200-ok")
    ),
    status=417,
)

# --- RFC 9110, 9.3.2 and 15: answers without a body
kept("9110 9.3.2", "HEAD has no body", get(b"/", method=b"HEAD"), get(b"/at/a", method=b"HEAD"), head=True)
kept("9110 9.3.2", "also when it fails", get(b"/nowhere", method=b"HEAD"), status=404, head=True)
kept("9110 9.3.2", "also where there is no GET", get(b"/echo", method=b"HEAD"), status=405, head=True)
kept("9110 9.3.2", "the length is that of GET", get(b"/", method=b"HEAD"), head=True, said="Content-Length: 2\r\n")
kept("9110 15.3.5", "204 has no body and no length", get(b"/status/204"), status=204, head=True)
kept("9110 15.3.6", "205 has no body, and says so", get(b"/status/205"), status=205, said="Content-Length: 0\r\n")
kept("9110 15.4.5", "304 has no body", get(b"/status/304"), status=304, head=True)
kept("9110 15", "any other status", get(b"/status/201"), status=201)
kept("9110 15", "also from a registry that is not ours", get(b"/status/299"), status=299)
kept("9110 15", "an unknown one too", get(b"/status/599"), status=599)
kept("9110 15.6.1", "a handler that fails gives an id and nothing else", get(b"/fails"), status=500, said='"id"')
