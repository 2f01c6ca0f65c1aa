"""A real S3 server in this process, and before it a proxy that fails as networks and stores do."""

from __future__ import annotations

import http.client
import http.server
import logging
import re
import socket
import threading
from collections.abc import Callable
from uuid import uuid4

import pytest
from pyarrow import fs

from virnuc_assets.store.objects import open_objects

SLOW_DOWN = (503, "SlowDown", "Please reduce your request rate.")
FORBIDDEN = (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
CUT = "the connection is reset in the middle of the body"


class Proxy(http.server.ThreadingHTTPServer):
    """Passes requests on to the server, as its test lets it."""

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server_to = server
        self.seen: list[tuple[str, str]] = []
        """Method and path with query, of every request that arrived."""
        self.fault: Callable[[str, str], object] = lambda method, path: None
        """What goes wrong with a request: None, one of the above, or CUT."""
        self.not_yet_listed = ""
        """Part of the names of objects that listings do not show."""

    def count(self, method: str, part: str = "") -> int:
        return sum(m == method and part in path for m, path in self.seen)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_):
        pass

    def _pass_on(self):
        self.server.seen.append((self.command, self.path))
        fault = self.server.fault(self.command, self.path)
        if fault == CUT:
            self.rfile.read1(1000 if self.command == "PUT" else 0)
            self._reset()
            return
        body = self._body()
        if isinstance(fault, tuple):
            status, code, message = fault
            text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._answer(status, {}, text)
            return
        connection = http.client.HTTPConnection(*self.server.server_to)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        connection.request(
            self.command, self.path, body, {**kept, "Content-Length": str(len(body))}
        )
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        if "list-type=2" in self.path and self.server.not_yet_listed:
            hidden = re.escape(self.server.not_yet_listed.encode())
            one = rb"<Contents>\s*<Key>[^<]*" + hidden + rb"[^<]*</Key>.*?</Contents>"
            found = re.sub(one, b"", found, flags=re.DOTALL)
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        self._answer(answer.status, headers, found)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        linger_none = b"\1\0\0\0\0\0\0\0"
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
        self.connection.close()
        self.rfile.close()
        self.close_connection = True


_HOP = {"connection", "content-length", "date", "expect", "server", "transfer-encoding"}


@pytest.fixture(scope="session")
def s3_server():
    """Host and port of an S3 server."""
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def proxy(s3_server, monkeypatch):
    """The proxy that stands before it; what is opened by URL in this test goes there."""
    server = Proxy(s3_server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("virnuc_assets.store.objects._ATTEMPTS", 3)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def url(proxy):
    """A folder in a new bucket."""
    bucket = f"bucket-{uuid4().hex}"
    host, port = proxy.server_to
    files = fs.S3FileSystem(
        endpoint_override=f"http://{host}:{port}", region="us-east-1", allow_bucket_creation=True
    )
    files.create_dir(bucket)
    return f"s3://{bucket}/some/folder"


@pytest.fixture
def objects(url):
    """That folder's objects, asked for through the proxy."""
    return open_objects(url)


@pytest.fixture
def slow_down():
    """A fault: throttled."""
    return SLOW_DOWN


@pytest.fixture
def forbidden():
    """A fault: credentials that the store does not know."""
    return FORBIDDEN


@pytest.fixture
def cut():
    """A fault: a connection that is reset half-way."""
    return CUT
