"""Bodies: their length, chunks, trailers, limits."""

from __future__ import annotations

from .rule import BODY_LIMIT, chunks, get, incomplete, kept, post, refused

# --- RFC 9112, 6: where the body ends
kept(
    "9112 6.2",
    "a body has the announced length",
    *(
        post(b"Content-Length: " + text, body=b"12345")
        for text in (b"5", b"05", b"0000000000000000000000005", b" 5 ", b"\t5")
    ),
    said="12345",
)
kept("9112 6.3", "without a length there is no body", post(), post(b"Content-Length: 0"), post(b"Content-Length: 000"))
kept("9110 9.3.1", "a GET may have a body", get(b"/", b"Content-Length: 5") + b"12345")
refused(
    "9110 8.6",
    "a malformed Content-Length",
    *(
        post(b"Content-Length: " + text, body=b"12345")
        for text in (
            *(
                b"",
                b"+5",
                b"-5",
                b"5 5",
                b"5,5",
                b"5, 5",
                b"0x5",
                b"5.0",
                b"5e0",
                b"five",
                b"5;a",
                b"\xb2",
                b"1_0",
                b"'5'",
                b"-0",
            ),
            *(b"5,", b",5", b"5\x0b", b"\xa05", b"5\x00"),
        )
    ),
)
refused(
    "9112 6.3",
    "two lengths",
    post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"),
    post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
    post(b"Content-Length: 0", b"content-length: 5", body=b"12345"),
    post(b"Content-Length:", b"Content-Length: 5", body=b"12345"),
)
refused(
    "9112 6.1",
    "Content-Length together with Transfer-Encoding",
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked", b"Content-Length: 0", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=b"12345"),
)
refused(
    "9112 6.1",
    "Transfer-Encoding in HTTP/1.0",
    post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"HTTP/1.0"),
)
refused(
    "9112 6.3",
    "chunked is not the last coding, so the end is unknown",
    *(
        post(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n")
        for coding in (
            *(
                b"gzip",
                b"identity",
                b"chunked, gzip",
                b"chunked, identity",
                b"",
                b",",
                b"xchunked",
                b"chunkedx",
                b"chunke",
                b"x",
            ),
            *(
                b"chunked;a=b",
                b"chunked,",
                b",chunked",
                b"chunked chunked",
                b"chunked, chunked",
                b"gzip;chunked",
                b'"chunked"',
            ),
            *(b"chunked\x0b", b"gzip, chunked, chunked", b"\x0bchunked"),
        )
    ),
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"),
)
refused(
    "9112 6.1",
    "a coding that is not understood is 501",
    post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: gzip,chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    status=501,
)
refused(
    "9110 15.5.14",
    "a body above the limit is 413, before it is read",
    post(b"Content-Length: %d" % (BODY_LIMIT + 1)),
    post(b"Content-Length: 8589934592"),
    post(b"Content-Length: 999999999999999999"),
    post(b"Content-Length: 9999999999999999999"),
    post(b"Content-Length: " + b"9" * 400),
    post(b"Expect: 100-continue", b"Content-Length: 8589934592"),
    chunks(b"%x\r\n" % (2 * BODY_LIMIT) + b"x" * (BODY_LIMIT + 1)),
    status=413,
)
kept("9110 15.5.14", "a body at the limit is not", post(b"Content-Length: %d" % BODY_LIMIT, body=b"x" * BODY_LIMIT))

# --- RFC 9112, 7.1: chunks
kept(
    "9112 7.1",
    "a chunked body",
    *(
        chunks(body)
        for body in (
            *(b"5\r\n12345\r\n0\r\n\r\n", b"1\r\n1\r\n4\r\n2345\r\n0\r\n\r\n", b"005\r\n12345\r\n000\r\n\r\n"),
            b"".join(b"1\r\n%c\r\n" % byte for byte in b"12345") + b"0\r\n\r\n",
        )
    ),
    post(b"transfer-encoding: CHUNKED", body=b"5\r\n12345\r\n0\r\n\r\n"),
    post(b"Transfer-Encoding:\tchunked ", body=b"5\r\n12345\r\n0\r\n\r\n"),
    said="12345",
)
kept(
    "9112 7.1",
    "hexadecimal in any case",
    chunks(b"a\r\n0123456789\r\n0\r\n\r\n"),
    chunks(b"A\r\n0123456789\r\n0\r\n\r\n"),
)
kept("9112 7.1", "an empty one", chunks(b"0\r\n\r\n"))
refused(
    "9112 7.1",
    "a chunk size is hexadecimal digits and nothing else",
    *(
        chunks(size + b"\r\n12345\r\n0\r\n\r\n")
        for size in (
            *(
                b"",
                b" 5",
                b"5 ",
                b"\t5",
                b"+5",
                b"-5",
                b"0x5",
                b"5h",
                b"g",
                b"five",
                b"5_0",
                b"5.",
                b"5,",
                b"\xb2",
                b"\x005",
            ),
            *(b"5\x00", b"'5'", b"5 5", b"\x0b5"),
        )
    ),
)
refused(
    "9112 7.1", "of at most 16", chunks(b"f" * 17 + b"\r\n"), chunks(b"0" * 16 + b"5\r\n12345\r\n"), chunks(b"1" * 9000)
)
refused(
    "9112 7.1",
    "its line ends with CR LF",
    chunks(b"5\n12345\r\n0\r\n\r\n"),
    chunks(b"5\r12345\r\n0\r\n\r\n"),
    chunks(b"5\r\r\n12345\r\n0\r\n\r\n"),
    chunks(b"\n5\r\n12345\r\n0\r\n\r\n"),
    chunks(b"5\r\n12345\r\n0\n\n"),
)
refused(
    "9112 7.1",
    "its data has the announced size",
    chunks(b"5\r\n123456\r\n0\r\n\r\n"),
    chunks(b"5\r\n1234\r\n0\r\n\r\n"),
    chunks(b"5\r\n12345XX0\r\n\r\n"),
    chunks(b"5\r\n12345\n0\r\n\r\n"),
    chunks(b"5\r\n12345\r0\r\n\r\n"),
    chunks(b"5\r\n123450\r\n\r\n"),
)
kept(
    "9112 7.1.1",
    "extensions are ignored",
    *(
        chunks(b"5" + extension + b"\r\n12345\r\n0\r\n\r\n")
        for extension in (
            *(
                b";a",
                b";a=b",
                b" ; a = b",
                b';a="b"',
                b';a="b;c\\"d"',
                b";a;b;c=d",
                b"\t;\ta",
                b';a="\xc3\xbc"',
                b';a=""',
            ),
            b";" + b"a" * 8000,
        )
    ),
    chunks(b"5\r\n12345\r\n0;last\r\n\r\n"),
    said="12345",
)
refused(
    "9112 7.1.1",
    "malformed extensions",
    *(
        chunks(b"5" + extension + b"\r\n12345\r\n0\r\n\r\n")
        for extension in (
            *(
                b";",
                b"; ",
                b";=b",
                b";a=",
                b";a b",
                b'; a="b',
                b";a=b c",
                b";a=\x00",
                b";a\x00",
                b';a="\x01"',
                b";a=b\rc",
                b";a=b\nc",
            ),
            *(b",a", b"a;", b";a;;b", b'="b"', b";\xc3\xbc"),
        )
    ),
)
refused(
    "9112 7.1.1",
    "endless extensions",
    chunks(b"5;" + b"a" * 9000),
    chunks(b"1;a=" + b"b" * 8000 + b"\r\n" + (b"x\r\n1;a=" + b"b" * 8000 + b"\r\n") * 9),
)
kept(
    "9112 7.1.2",
    "trailers are ignored, and never merged into the header",
    chunks(b"5\r\n12345\r\n0\r\nA: b\r\n\r\n"),
    chunks(b"5\r\n12345\r\n0\r\nA: b\r\nA: c\r\nD:\r\n\r\n"),
    chunks(b"5\r\n12345\r\n0\r\nX-Token: wrong\r\n\r\n"),
    chunks(b"5\r\n12345\r\n0\r\nX_Token: wrong\r\nContent-MD5: x\r\n\r\n"),
    said='"token":null',
)
refused(
    "9110 6.5.1",
    "fields that must come before the body",
    *(
        chunks(b"5\r\n12345\r\n0\r\nA: b\r\n" + name + b": x\r\n\r\n")
        for name in (
            *(b"Host", b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Content-Encoding", b"Content-Range"),
            *(
                b"Authorization",
                b"Cookie",
                b"Set-Cookie",
                b"Connection",
                b"Expect",
                b"Cache-Control",
                b"Max-Forwards",
                b"TE",
            ),
            *(
                b"If-Match",
                b"If-None-Match",
                b"If-Modified-Since",
                b"Range",
                b"Proxy-Authorization",
                b"Upgrade",
                b"Forwarded",
            ),
            *(b"X-Forwarded-For", b"content-length", b"HOST", b"Pragma", b"Keep-Alive"),
        )
    ),
)
refused(
    "9112 7.1.2",
    "malformed trailers",
    *(
        chunks(b"0\r\n" + trailer + b"\r\n\r\n")
        for trailer in (
            *(
                b"no colon",
                b"A : b",
                b": b",
                b" folded",
                b"A: b\r\n c",
                b"A: \x00",
                b"A: b\rc",
                b"A: b\nC: d",
                b"A: b\n",
                b"A\x7f: b",
            ),
        )
    ),
)
refused(
    "9112 7.1.2",
    "endless trailers",
    chunks(b"0\r\n" + b"A: b\r\n" * 101),
    chunks(b"0\r\nA: " + b"b" * 9000),
    chunks(b"0\r\n" + b"".join(b"A%d: " % number + b"b" * 8000 + b"\r\n" for number in range(9))),
)

# --- RFC 9112, 8: incomplete messages; here the client ends its side after the request
incomplete(
    "9112 8",
    "half a header",
    *(b"G", b"GET", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x"),
    *(b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r", b"\r\n", b"\r\nGET"),
)
incomplete(
    "9112 8",
    "half a body",
    post(b"Content-Length: 5"),
    post(b"Content-Length: 5", body=b"1234"),
    *(
        chunks(body)
        for body in (b"", b"5", b"5\r", b"5\r\n", b"5\r\n1234", b"5\r\n12345", b"5\r\n12345\r", b"5\r\n12345\r\n")
    ),
    *(
        chunks(body)
        for body in (b"5;a", b'5;a="', b"0", b"0\r\n", b"0\r\n\r", b"0\r\nA: b", b"0\r\nA: b\r\n", b"0\r\nA: b\r\n\r")
    ),
)
