# SPDX-License-Identifier: Apache-2.0
"""Odd requests and what becomes of each; @ stands for the server's authority."""

POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def te(value: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n" + body


def length(value: bytes, body: bytes = b"abcd") -> bytes:
    return POST + b"Content-Length: " + value + b"\r\n\r\n" + body


def get(fields: bytes) -> bytes:
    return GET + b"Host: x\r\n" + fields + b"\r\n"


# What is refused before anything of it is sent on.
REFUSED: dict[str, tuple[int, bytes]] = {
    "CL.TE": (
        400,
        POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    ),
    "TE.CL": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + SMUGGLED,
    ),
    "TE.CL, other case": (
        400,
        POST + b"tRANSFER-eNCODING: cHUNKED\r\ncONTENT-lENGTH: 4\r\n\r\n0\r\n\r\n",
    ),
    "two lengths that differ": (
        400,
        POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    ),
    "two equal lengths": (400, POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"),
    "length list": (400, length(b"4, 4")),
    "length list that differs": (400, length(b"4, 5")),
    "length +4": (400, length(b"+4")),
    "length -1": (400, length(b"-1")),
    "length 0x4": (400, length(b"0x4")),
    "length 4.0": (400, length(b"4.0")),
    "length 4 4": (400, length(b"4 4")),
    "length empty": (400, length(b"")),
    "length of letters": (400, length(b"abc")),
    "length overflows": (400, length(b"18446744073709551620")),
    "length overflows more": (400, length(b"9" * 60)),
    "length with vertical tab": (400, length(b"\x0b4")),
    "TE xchunked": (501, te(b"xchunked")),
    "TE chunked, identity": (400, te(b"chunked, identity")),
    "TE identity, chunked": (501, te(b"identity, chunked")),
    "TE gzip": (501, te(b"gzip")),
    "TE gzip, chunked": (501, te(b"gzip, chunked")),
    "TE identity": (501, te(b"identity")),
    "TE chunked, chunked": (400, te(b"chunked, chunked")),
    "TE empty": (400, te(b"")),
    "TE quoted": (501, te(b'"chunked"')),
    "TE with a parameter": (501, te(b"chunked;a=b")),
    "TE with vertical tab": (400, te(b"\x0bchunked")),
    "TE with a comma before": (501, te(b", chunked")),
    "TE twice": (400, POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"),
    "TE twice, the second unknown": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    "TE with a space before the colon": (
        400,
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    "TE with a tab before the colon": (
        400,
        POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    ),
    "TE with a space before its name": (
        400,
        POST + b" Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "TE behind a bare CR": (400, POST + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE behind a bare LF": (400, POST + b"X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE behind CR CR LF": (400, POST + b"X-A: b\r\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "TE folded": (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    "TE on 1.0": (
        400,
        b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "TE on 1.0, kept": (
        400,
        b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\n" + te(b"chunked")[len(POST) :],
    ),
    "folded field": (400, get(b"X-A: b\r\n c\r\n")),
    "folded with a tab": (400, get(b"X-A: b\r\n\tc\r\n")),
    "folded first field": (400, GET + b" Host: x\r\n\r\n"),
    "bare LF in the head": (400, b"GET /a HTTP/1.1\nHost: x\n\n"),
    "bare LF behind the request line": (400, b"GET /a HTTP/1.1\nHost: x\r\n\r\n"),
    "bare LF at the head's end": (400, b"GET /a HTTP/1.1\r\nHost: x\r\n\n"),
    "bare CR in a value": (400, get(b"X-A: b\rc: d\r\n")),
    "bare CR in the request line": (400, b"GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n"),
    "NUL in a value": (400, get(b"X-A: b\0c\r\n")),
    "NUL in a name": (400, get(b"X-A\0: b\r\n")),
    "NUL in the target": (400, b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "control byte in a value": (400, get(b"X-A: b\x01c\r\n")),
    "delete in a value": (400, get(b"X-A: b\x7fc\r\n")),
    "empty name": (400, get(b": b\r\n")),
    "no colon": (400, get(b"X-A\r\n")),
    "space in a name": (400, get(b"X A: b\r\n")),
    "bracket in a name": (400, get(b"X[A]: b\r\n")),
    "byte above 127 in a name": (400, get(b"X-\xc3\xa4: b\r\n")),
    "space before a colon": (400, get(b"X-A : b\r\n")),
    "no Host": (400, GET + b"\r\n"),
    "two Hosts": (400, GET + b"Host: x\r\nHost: y\r\n\r\n"),
    "two equal Hosts": (400, GET + b"Host: x\r\nhOST: x\r\n\r\n"),
    "two Hosts on 1.0": (400, b"GET /a HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    "Host with a space": (400, GET + b"Host: x y\r\n\r\n"),
    "Host with a path": (400, GET + b"Host: x/a\r\n\r\n"),
    "Host with a user": (400, GET + b"Host: a@x\r\n\r\n"),
    "Host with two ports": (400, GET + b"Host: x:1:2\r\n\r\n"),
    "Host with letters for a port": (400, GET + b"Host: x:http\r\n\r\n"),
    "Host with half a bracket": (400, GET + b"Host: [::1\r\n\r\n"),
    "Host with a list": (400, GET + b"Host: x, y\r\n\r\n"),
    "absolute target with an odd authority": (
        400,
        b'GET http://evil,"/a HTTP/1.1\r\nHost: x\r\n\r\n',
    ),
    "CONNECT": (501, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "CONNECT with a path": (501, b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "authority as a target": (400, b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "relative target": (400, b"GET a/b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "absolute target of another scheme": (400, b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no target": (400, b"GET  HTTP/1.1\r\nHost: x\r\n\r\n"),
    "space in the target": (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tab before the version": (400, b"GET /a\tHTTP/1.1\r\nHost: x\r\n\r\n"),
    "space behind the version": (400, b"GET /a HTTP/1.1 \r\nHost: x\r\n\r\n"),
    "space before the method": (400, b" GET /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "lower method": (400, b"get /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "mixed method": (400, b"Get /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "method with a separator": (400, b"GE(T /a HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no version": (505, b"GET /a\r\nHost: x\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /a\r\n\r\n"),
    "HTTP/0.9, written": (505, b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n"),
    "HTTP/1.2": (400, b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n"),
    "HTTP/2.0, written": (505, b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/11": (400, b"GET /a HTTP/11\r\nHost: x\r\n\r\n"),
    "HTTP/1.10": (400, b"GET /a HTTP/1.10\r\nHost: x\r\n\r\n"),
    "HTTP/01.1": (400, b"GET /a HTTP/01.1\r\nHost: x\r\n\r\n"),
    "http/1.1": (400, b"GET /a http/1.1\r\nHost: x\r\n\r\n"),
    "ICE": (400, b"SOURCE /a ICE/1.0\r\nHost: x\r\n\r\n"),
    "RTSP": (400, b"DESCRIBE /a RTSP/1.0\r\nHost: x\r\n\r\n"),
    "HTTP/2 preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
    "TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40),
    "an answer": (400, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "garbage": (400, bytes(range(128, 256)) * 4),
}

# Broken within the body: the head may have gone on, the request is never complete there.
BROKEN: dict[str, bytes] = {
    "bare LF in chunks": CHUNKED + b"2\nab\n0\n\n",
    "bare LF behind the size": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "bare LF behind the data": CHUNKED + b"2\r\nab\n0\r\n\r\n",
    "bare LF at the end": CHUNKED + b"2\r\nab\r\n0\r\n\n",
    "bare CR behind the size": CHUNKED + b"2\rab\r\n0\r\n\r\n",
    "size 0x2": CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n",
    "size +2": CHUNKED + b"+2\r\nab\r\n0\r\n\r\n",
    "size -2": CHUNKED + b"-2\r\nab\r\n0\r\n\r\n",
    "size with a space before": CHUNKED + b" 2\r\nab\r\n0\r\n\r\n",
    "size with a space behind": CHUNKED + b"2 \r\nab\r\n0\r\n\r\n",
    "size with an underscore": CHUNKED + b"0_2\r\nab\r\n0\r\n\r\n",
    "no size": CHUNKED + b"\r\nab\r\n0\r\n\r\n",
    "size overflows": CHUNKED + b"10000000000000002\r\nab\r\n0\r\n\r\n",
    "size overflows by far": CHUNKED + b"f" * 40 + b"\r\nab\r\n0\r\n\r\n",
    "more data than the size": CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n",
    "less data than the size": CHUNKED + b"5\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "bare LF in an extension": CHUNKED + b"2;a\n\r\nab\r\n0\r\n\r\n",
    "NUL in an extension": CHUNKED + b"2;\0a\r\nab\r\n0\r\n\r\n",
    "bare LF in a trailer": CHUNKED + b"2\r\nab\r\n0\r\nX: 1\n\r\n",
    "length in a trailer": CHUNKED + b"2\r\nab\r\n0\r\nContent-Length: 9\r\n\r\n",
    "coding in a trailer": CHUNKED + b"2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "space in a trailer's name": CHUNKED + b"2\r\nab\r\n0\r\nX Y: 1\r\n\r\n",
}

HEAD = b"GET /a HTTP/1.1\r\nHost: @\r\n"
# What is forwarded, and as what; @ stands for the server's authority.
FORWARDED: dict[str, tuple[bytes, bytes]] = {
    "chunk extension": (
        CHUNKED + b"2;a=b\r\nab\r\n0;c\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "quoted chunk extension": (
        CHUNKED + b'2;a="b c"\r\nab\r\n0\r\n\r\n',
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "chunk size with zeros": (
        CHUNKED + b"0000000000000002\r\nab\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "upper coding": (
        te(b"CHUNKED", b"2\r\nab\r\n0\r\n\r\n"),
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "trailer": (
        POST + b"Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        b"2\r\nab\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "length with zeros": (
        length(b"0004"),
        b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 0004\r\n\r\nabcd",
    ),
    "length with spaces around": (
        POST + b"Content-Length: \t 4 \t\r\n\r\nabcd",
        b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 4 \t\r\n\r\nabcd",
    ),
    "body of a GET": (
        GET + b"Host: x\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Content-Length: 2\r\n\r\nab",
    ),
    "no length, no body": (POST + b"\r\n", b"POST /a HTTP/1.1\r\nHost: @\r\n\r\n"),
    "empty Host": (GET + b"Host:\r\n\r\n", HEAD + b"\r\n"),
    "foreign Host": (GET + b"hOST: evil.example:99\r\n\r\n", HEAD + b"\r\n"),
    "Host with an address": (GET + b"Host: [fe80::1]:80\r\n\r\n", HEAD + b"\r\n"),
    "absolute target without a path": (
        b"GET http://evil HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + HEAD[6:] + b"\r\n",
    ),
    "absolute target with a query alone": (
        b"GET http://evil?/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /?/a?b" + HEAD[6:] + b"\r\n",
    ),
    "absolute target": (
        b"GET http://evil/a?b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a?b" + HEAD[6:] + b"\r\n",
    ),
    "absolute target, upper": (b"GET HTTPS://evil/a HTTP/1.1\r\nHost: x\r\n\r\n", HEAD + b"\r\n"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS *" + HEAD[6:] + b"\r\n"),
    "path left alone": (
        b"GET /a%2fb//c/../d/./?x=%20%22&&;#%00 HTTP/1.1\r\nHost: x\r\n\r\n".replace(b"#", b""),
        b"GET /a%2fb//c/../d/./?x=%20%22&&;%00" + HEAD[6:] + b"\r\n",
    ),
    "two slashes first": (
        b"GET //evil/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //evil/a" + HEAD[6:] + b"\r\n",
    ),
    "Connection names a field": (
        get(b"Connection: keep-alive, X-Foo\r\nX-Foo: 1\r\nX-Bar: 2\r\n"),
        HEAD + b"X-Bar: 2\r\n\r\n",
    ),
    "Connection names a field, twice and in another case": (
        get(b"Connection: x-foo\r\nX-Foo: 1\r\nX-Bar: 2\r\nconnection: ,X-BAR ,\r\n"),
        HEAD + b"\r\n",
    ),
    "Connection names Host": (get(b"Connection: host\r\n"), HEAD + b"\r\n"),
    "Connection names the length": (
        POST + b"Connection: content-length\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    "Connection names the coding": (
        POST + b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: @\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ),
    "fields of one hop": (
        get(
            b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
            b"Proxy-Authorization: Basic eDp5\r\nTrailer: X\r\nX-B: 1\r\n"
        ),
        HEAD + b"X-B: 1\r\n\r\n",
    ),
    "Upgrade": (
        get(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        HEAD + b"Sec-WebSocket-Version: 13\r\n\r\n",
    ),
    "Upgrade with a body": (
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /a HTTP/1.1\r\nHost: @\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    "h2c": (
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        HEAD + b"\r\n",
    ),
    "empty value": (get(b"X-A:\r\n"), HEAD + b"X-A: \r\n\r\n"),
    "no space behind the colon": (get(b"X-A:b\r\n"), HEAD + b"X-A: b\r\n\r\n"),
    "bytes above 127 in a value": (
        get(b"X-A: \xc3\xa4\xff\r\n"),
        HEAD + b"X-A: \xc3\xa4\xff\r\n\r\n",
    ),
    "tab in a value": (get(b"X-A: b\tc\r\n"), HEAD + b"X-A: b\tc\r\n\r\n"),
    "odd name": (get(b"!#$%&'*+-.^_`|~9: b\r\n"), HEAD + b"!#$%&'*+-.^_`|~9: b\r\n\r\n"),
    "names that look alike": (
        get(b"Content_Length: 9\r\nTransfer_Encoding: chunked\r\nX-Host: y\r\n"),
        HEAD + b"Content_Length: 9\r\nTransfer_Encoding: chunked\r\nX-Host: y\r\n\r\n",
    ),
    "two spaces before the target": (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", HEAD + b"\r\n"),
    "two spaces before the version": (b"GET /a  HTTP/1.1\r\nHost: x\r\n\r\n", HEAD + b"\r\n"),
    "empty lines before": (b"\r\n\r\n" + get(b""), HEAD + b"\r\n"),
}
