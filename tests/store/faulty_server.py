"""An HTTP server in front of another one, which fails now and then."""

import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What a request meets: nothing, an error of the server, a closed connection, or an answer that
#: takes a second.
FAULTS = ("", "error", "drop", "slow")
_OWN = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class FaultyServer:
    """Passes requests on to another server, unless `fault` says otherwise.

    Attributes:
      fault: (number of the request, from 0; its method) -> one of `FAULTS`.
      met: the faults that requests have met.
    """

    def __init__(self, host: str, port: int) -> None:
        self.fault: Callable[[int, str], str] = lambda number, method: ""
        self.met: list[str] = []
        self._count, self._lock = 0, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size)
                fault = outer._next(self.command)
                if fault == "drop":
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault == "error":
                    self.give(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                if fault == "slow":
                    time.sleep(1)
                there = http.client.HTTPConnection(host, port)
                there.request(self.command, self.path, body, dict(self.headers))
                found = there.getresponse()
                self.give(found.status, dict(found.getheaders()), found.read())
                there.close()

            def give(self, status, headers, body):
                self.send_response(status)
                length = str(len(body))
                for name, value in headers.items():
                    if self.command == "HEAD" and name.lower() == "content-length":
                        length = value
                    if name.lower() not in _OWN:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

            def log_message(self, format, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def _next(self, method: str) -> str:
        with self._lock:
            fault = self.fault(self._count, method)
            self._count += 1
            if fault:
                self.met.append(fault)
        return fault
