"""The header fields: `Host`, names, values, repeated ones, limits."""

from __future__ import annotations

from .rule import fields, get, kept, last, post, refused, with_host

# --- RFC 9110, 7.2: Host
refused(
    "9112 3.2",
    "HTTP/1.1 needs a Host",
    get(b"/", host=b""),
    get(b"/", b"X-Host: x", host=b""),
    get(b"/", b"H_ost: x", host=b""),
)
refused(
    "9112 3.2",
    "and only one",
    *(get(b"/", line) for line in (b"Host: x", b"Host: y", b"host: x", b"HOST:", b"Host: x, y")),
    get(b"/", host=b"Host:\r\nHost:\r\n"),
    get(b"/", b"Host: x", version=b"HTTP/1.0"),
)
kept(
    "9110 7.2",
    "a valid Host",
    *(
        with_host(host)
        for host in (
            *(
                b"",
                b"x",
                b"a.example:8080",
                b"a:",
                b"127.0.0.1:80",
                b"[::1]:80",
                b"[::]",
                b"a_b",
                b"x%20y",
                b"x:0",
                b"x:65535",
            ),
            *(
                b"x:00080",
                b"a.",
                b"-",
                b"[v1.a:b]",
                b"a,b",
                b"xn--bcher-kva.example",
                b"[::ffff:127.0.0.1]",
                b" \tx\t ",
            ),
        )
    ),
)
refused(
    "9110 7.2",
    "a malformed Host",
    *(
        with_host(host)
        for host in (
            *(
                b"a b",
                b"a/b",
                b"a@b",
                b"a:b",
                b"a:65536",
                b"a:999999999999999999",
                b"a:80:80",
                b":80",
                b":",
                b"a%zz",
                b"a%",
            ),
            *(
                b"a#",
                b"a, b",
                b"::1",
                b"[::1",
                b"[::g]",
                b"[]",
                b"[::1]x",
                b"[::1]80",
                b"<a>",
                b"\xc3\xbc",
                b'"a"',
                b"a\\b",
            ),
            *(
                b"http://a",
                b"a?b",
                b"[fe80::1%25eth0]",
                b"[v1]",
                b"a:-1",
                b"a:+80",
                b"a:8 0",
                b"a:\xb2",
                b"{a}",
                b"a|b",
            ),
        )
    ),
)
last("9112 3.2", "HTTP/1.0 needs none", get(b"/", version=b"HTTP/1.0", host=b""))
refused("9112 3.2", "but a malformed one is refused there too", with_host(b"a b", b"HTTP/1.0"))

# --- RFC 9112, 5, and RFC 9110, 5: fields
refused(
    "9112 5.1",
    "no white space before the colon",
    *(
        fields(line)
        for line in (b"X : y", b"X\t: y", b"X  :y", b"Content-Length : 0", b"Host : x", b"Transfer-Encoding : chunked")
    ),
)
refused(
    "9112 5.2",
    "no folded lines",
    fields(b"X: y", b" z"),
    fields(b"X: y", b"\tz"),
    fields(b"X:", b" y"),
    fields(b"X: y", b" "),
    fields(b"X: y", b" Content-Length: 5"),
)
refused(
    "9110 5.1",
    "a name is a token",
    *(
        fields(line)
        for line in (
            *(
                b": y",
                b"X Y: z",
                b"no colon",
                b'"X": y',
                b"X(: y",
                b"X/Y: z",
                b"X@: y",
                b"X,: y",
                b"X;: y",
                b"[X]: y",
                b"{X}: y",
            ),
            *(
                b"X\x00: y",
                b"X\x7f: y",
                b"\xc3\xbc: y",
                b"X\x80: y",
                b"X\x0b: y",
                b"X\r: y",
                b"=: y",
                b"\xef\xbb\xbfX: y",
            ),
        )
    ),
)
refused(
    "9110 5.5",
    "no NUL, CR, LF or other control characters in a value",
    *(fields(b"X: a" + bytes([byte]) + b"b") for byte in (0, 1, 7, 8, 10, 11, 12, 13, 14, 27, 31, 127)),
    fields(b"X: \x00"),
    fields(b"X: y\r"),
)
kept(
    "9110 5.5",
    "any other value",
    *(
        fields(line)
        for line in (
            *(
                b"X:",
                b"X: ",
                b"X:y",
                b"X:  y  ",
                b"X:\ty\t",
                b"X: a\tb",
                b"X: caf\xc3\xa9",
                b"X: \x80\x9f\xff",
                b"X: a:b",
                b"X: ::",
            ),
            *(b"!#$%&'*+-.^`|~09: y", b"X: " + b"y" * 8000),
        )
    ),
)
kept("9110 5.1", "names in any case", get(b"/seen", b"x-ToKeN: abc"), get(b"/seen", b"X-TOKEN: abc"), said='"abc"')
kept("9110 5.3", "a list may come in several lines", get(b"/seen", b"X-Token: a", b"x-token: b"), said='"a, b"')
kept("6265 5.4", "cookies are joined by semicolons", get(b"/seen", b"Cookie: a=1", b"Cookie: b=2"), said='"a=1; b=2"')
refused(
    "9110 5.3",
    "a field with one value comes once",
    *(
        post(line, line, b"Content-Length: 0")
        for line in (
            *(
                b"Content-Type: application/json",
                b"Authorization: Basic YTpi",
                b"User-Agent: a",
                b"Referer: /",
                b"From: a@b",
            ),
            *(b"If-Modified-Since: x", b"If-Unmodified-Since: x", b"If-Range: x", b"Range: bytes=0-1", b"Date: x"),
            *(
                b"Max-Forwards: 1",
                b"Origin: http://a",
                b"Proxy-Authorization: Basic YTpi",
                b"Content-Range: bytes 0-1/2",
            ),
            b"Content-Location: /",
        )
    ),
    post(b"Content-Type: text/plain", b"content-type: application/json", b"Content-Length: 0"),
)
kept(
    "3875 4.1.18",
    "a name with _ is left out: for a program it would look like the one with -",
    post(b"Content_Length: 5", b"Transfer_Encoding: chunked"),
    get(b"/seen", b"X_Token: a", b"X_TOKEN: b"),
    get(b"/seen", b"Ho_st: a", b"Content_Type: b"),
    get(b"/seen", b"Connec_tion: close", b"_: c"),
)
kept(
    "3875 4.1.18", "and does not replace that one", get(b"/seen", b"X-Token: right", b"X_Token: wrong"), said='"right"'
)
kept("6585 5", "100 fields", fields(*(b"X-%d: y" % number for number in range(99))))
refused(
    "6585 5",
    "more fields, longer ones, or more than 64 KiB of them are 431",
    fields(*(b"X-%d: y" % number for number in range(100))),
    fields(*[b"X: y"] * 100),
    fields(*[b"_: y"] * 100),
    fields(b"X: " + b"y" * 8192),
    fields(b"X" * 8192 + b": y"),
    fields(b"X: " + b" " * 8192),
    fields(*(b"X-%d: " % number + b"y" * 8000 for number in range(9))),
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000,
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"y" * 9000,
    status=431,
)
