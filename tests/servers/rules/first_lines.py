"""The request line: its form, versions, methods and targets."""

from __future__ import annotations

from .rule import first_line, get, kept, refused

# --- RFC 9112, 2.2: lines
kept("9112 2.2", "an empty line before the request is ignored", b"\r\n" + get(b"/"))
refused("9112 2.2", "only one empty line", b"\r\n\r\n" + get(b"/"))
refused(
    "9112 2.2",
    "a line ends with CR LF",
    b"GET / HTTP/1.1\nHost: x\n\n",
    b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    b"GET / HTTP/1.1\rHost: x\r\r",
    b"GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
    b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
)
refused(
    "9112 2.2",
    "no white space between the request line and the first field",
    b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\tHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n",
)
refused(
    "9112 2.2",
    "what is not HTTP is refused",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"\x00\r\n\r\n",
    b"\xff\xfe\r\n\r\n",
    b"HELO mail.example\r\n\r\n",
    b"*1\r\n$4\r\nPING\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
)

# --- RFC 9112, 2.3: versions
kept(
    "9110 2.5",
    "a higher minor version is answered as 1.1",
    get(b"/", version=b"HTTP/1.2"),
    get(b"/", version=b"HTTP/1.9"),
)
refused("9110 2.5", "and needs what 1.1 needs", get(b"/", version=b"HTTP/1.2", host=b""))
refused(
    "9110 15.6.6",
    "another major version is not supported",
    get(b"/", version=b"HTTP/2.0"),
    get(b"/", version=b"HTTP/3.1"),
    get(b"/", version=b"HTTP/0.9"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    status=505,
)
refused(
    "9112 2.3",
    "a version has one form, in upper case",
    *(
        get(b"/", version=version)
        for version in (
            *(b"http/1.1", b"Http/1.1", b"HTTP/1", b"HTTP/1.", b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1,1"),
            *(b"HTTP 1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/ 1.1", b"HTTPS/1.1", b"HTTP/x.y", b"HTTP/-1.1", b"1.1"),
        )
    ),
)
refused("9112 2.3", "HTTP/0.9 has no version, and is not served", b"GET /\r\n\r\n", b"GET / \r\n\r\n")

# --- RFC 9112, 3: the request line
refused(
    "9112 3",
    "method, target and version are separated by one space",
    first_line(b"GET  / HTTP/1.1"),
    first_line(b"GET /  HTTP/1.1"),
    first_line(b"GET\t/ HTTP/1.1"),
    first_line(b"GET /\tHTTP/1.1"),
    first_line(b" GET / HTTP/1.1"),
    first_line(b"GET / HTTP/1.1 x"),
    first_line(b"GET /a b HTTP/1.1"),
    first_line(b"GET / HTTP/1.1 "),
    first_line(b"GET"),
    first_line(b"/ HTTP/1.1"),
    first_line(b"GET HTTP/1.1"),
    first_line(b"GET\x0b/ HTTP/1.1"),
    first_line(b"GET\xa0/ HTTP/1.1"),
)
refused(
    "9112 3.1",
    "a method is a token",
    *(
        get(b"/", method=method)
        for method in (b"G@T", b"G(T", b"GET:", b"G\x00T", b"G\xc3\x89T", b'"GET"', b"GET/", b"", b"{}")
    ),
)
refused("9112 3", "a method that is longer than any known one", get(b"/", method=b"X" * 33), status=501)
kept(
    "9110 15.5.6",
    "a method that the path does not have is 405 with Allow",
    *(
        get(b"/", method=method)
        for method in (b"DELETE", b"PUT", b"TRACE", b"PROPFIND", b"FOO", b"X" * 32, b"M-SEARCH", b"!#$%")
    ),
    status=405,
    said="Allow: GET, HEAD, OPTIONS",
)
kept("9112 3.1", "methods are case-sensitive", get(b"/", method=b"get"), get(b"/", method=b"Get"), status=405)
kept("9110 9.3", "no name of a method is special", get(b"/", method=b"WEBSOCKET"), get(b"/", method=b"PRI"), status=405)
kept("9110 15.5.5", "a path that does not exist is 404", get(b"/nowhere"), get(b"//"), get(b"/;"), status=404)
refused(
    "9110 15.5.15",
    "a request line above 8 KiB is 414",
    get(b"/" + b"x" * 8192),
    get(b"/?" + b"x" * 8192),
    get(b"http://x/" + b"x" * 8192),
    b"GET /" + b"x" * 9000,
    b"x" * 9000,
    get(b"/", method=b"X" * 9000),
    status=414,
)
kept("9112 3", "a request line of 8,000 bytes is fine", get(b"/seen?a=" + b"x" * 7980))

# --- RFC 9112, 3.2: targets
kept(
    "9112 3.2.1",
    "the origin form: path and query",
    *(
        get(b"/seen" + rest)
        for rest in (
            *(b"", b"?", b"?a=b", b"?a=b&a=c", b"?/path?x", b"?u=http://a/b", b"?a=%25", b"?a=[1]&b={2}|3", b"?a=^`\\"),
            b"?!$'()*+,;:@-._~",
        )
    ),
)
kept("9112 3.2.1", "every character of a path", get(b"/at/!$&'()*+,;=:@-._~%20%7f%00|[]"))
kept("9110 4.2.3", "a percent-encoded character is the character", get(b"/%73een"), get(b"/s%65%65n"), said='"/seen"')
kept("3986 2.1", "an encoded slash does not separate segments", get(b"/at/a%2fb"), get(b"/at/a%2Fb"), said="a%2Fb")
kept("3986 2.5", "a path that is not UTF-8 is refused", get(b"/at/%ff"), get(b"/at/%c3"), status=400)
refused(
    "9112 3.2",
    "any other form is 400, not 404",
    *(
        get(target)
        for target in (
            *(
                b"seen",
                b"seen/a",
                b"?a=1",
                b"a:80",
                b"x",
                b"..",
                b"../seen",
                b"\\seen",
                b"/a\\b",
                b'/"a"',
                b"/<a>",
                b"/a^b",
            ),
            *(
                b"/{a}",
                b"/a`b",
                b"/\x01",
                b"/\x7f",
                b"/\x80",
                b"/\xc3\xbc",
                b"/?\xc3\xbc",
                b'/?a="b"',
                b"/?<a>",
                b"/?\x00",
            ),
        )
    ),
)
refused(
    "9112 3.2",
    "a fragment is not sent",
    *(
        get(target)
        for target in (b"/seen#a", b"/seen#", b"#", b"/seen?a#b", b"http://x/seen#a", b"http://x#a", b"/#?a")
    ),
)
refused(
    "3986 2.1",
    "a percent sign comes before two hexadecimal digits",
    *(
        get(target)
        for target in (
            *(
                b"/%",
                b"/%2",
                b"/seen%zz",
                b"/%%20",
                b"/%g0",
                b"/% 20",
                b"/seen?a=%",
                b"/seen?a=%f",
                b"/seen?100%",
                b"/%u00fc",
            ),
            *(b"/%-1", b"http://x/%", b"http://x/?%", b"http://x%/"),
        )
    ),
)
refused(
    "3986 5.2.4",
    "clients remove dot segments",
    *(
        get(target)
        for target in (
            *(
                b"/.",
                b"/..",
                b"/./",
                b"/../",
                b"/seen/.",
                b"/seen/..",
                b"/a/../seen",
                b"/a/./seen",
                b"/../../etc/passwd",
            ),
            *(
                b"/%2e",
                b"/%2e%2e/",
                b"/.%2e/seen",
                b"/%2E./seen",
                b"/a/%2e%2E/seen",
                b"/at/%2e%2e%2fseen",
                b"/at/a%2f..%2fb",
            ),
            *(b"http://x/..", b"http://x/a/../seen"),
        )
    ),
)
kept(
    "3986 5.2.4",
    "dots are allowed in names",
    *(
        get(target)
        for target in (b"/at/...", b"/at/.a", b"/at/a.", b"/at/..a", b"/at/a..b", b"/at/.well-known", b"/seen?a=/../b")
    ),
)
kept(
    "9112 3.2.2",
    "the absolute form is understood",
    *(
        get(target)
        for target in (
            *(b"http://x/seen", b"HTTP://x/seen", b"https://x/seen", b"http://x:81/seen?a=b", b"http://[::1]/seen"),
            *(b"http://x?a", b"http://x", b"http://x/", b"http://127.0.0.1:80/seen", b"http://other.example/seen"),
        )
    ),
)
kept("9112 3.2.2", "its authority replaces Host", get(b"http://other.example:81/seen"), said='"other.example:81"')
refused(
    "9112 3.2.2",
    "and Host is needed all the same",
    get(b"http://x/seen", host=b""),
    get(b"http://x/", host=b"Host: a b\r\n"),
)
refused(
    "9112 3.2.2",
    "an absolute form has a scheme and a valid authority",
    *(
        get(target)
        for target in (
            *(
                b"ftp://x/",
                b"ws://x/",
                b"file:///seen",
                b"http:/seen",
                b"http:seen",
                b"http://",
                b"http:///seen",
                b"/\\x",
            ),
            *(
                b"http://u@x/",
                b"http://u:p@x/seen",
                b"http://x:65536/",
                b"http://x:a/",
                b"http://[::g]/",
                b"http://[::1/",
            ),
            *(
                b"http://a b/",
                b"http://:80/",
                b"https//x/",
                b"http://x:80:80/",
                b"javascript:alert(1)",
                b"urn:a:b",
                b"mailto:a@b",
            ),
        )
    ),
)
refused(
    "9110 9.3.6",
    "CONNECT: this is no proxy",
    *(get(target, method=b"CONNECT") for target in (b"x:80", b"127.0.0.1:443", b"[::1]:443", b"x:65535")),
    status=501,
)
refused(
    "9112 3.2.3",
    "the target of CONNECT is an authority with a port",
    *(
        get(target, method=b"CONNECT")
        for target in (
            b"x",
            b"x:",
            b":80",
            b"x:a",
            b"x:65536",
            b"u@x:80",
            b"/seen",
            b"/",
            b"http://x/",
            b"*",
            b"[::g]:80",
        )
    ),
)
refused("9112 3.2.3", "an authority is only for CONNECT", get(b"x:80"), get(b"x:80", method=b"OPTIONS"))
kept(
    "9112 3.2.4", "OPTIONS may ask about the server", get(b"*", method=b"OPTIONS"), get(b"http://x", method=b"OPTIONS")
)
refused(
    "9112 3.2.4",
    "the asterisk is only for OPTIONS",
    *(get(b"*", method=method) for method in (b"GET", b"HEAD", b"POST", b"FOO", b"options")),
    get(b"*?a", method=b"OPTIONS"),
    get(b"**", method=b"OPTIONS"),
    get(b"*/", method=b"OPTIONS"),
)
kept("9110 9.3.7", "OPTIONS for a path has Allow", get(b"/", method=b"OPTIONS"), said="GET, HEAD")
