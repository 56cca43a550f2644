"""A server before another one that breaks what is written, on the wire: for clients as they are."""

import http.client
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

WRITES = ("PUT", "POST")
OF_THE_CONNECTION = ("connection", "transfer-encoding", "content-length")


class Flaky:
    """Passes requests on to `target`, but breaks those that write while there is a `fault`.

    It is one of 503, reset and hang.
    """

    def __init__(self, target):
        self.target, self.fault = urlsplit(target), None
        self.broken, self.over = 0, threading.Event()
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if flaky.fault and self.command in WRITES:
                    flaky.broken += 1
                    flaky.break_off(self, flaky.fault)
                else:
                    flaky.forward(self, body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the library

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def break_off(self, request, fault):
        request.close_connection = True
        if fault == "503":
            request.send_error(503, "Slow Down")
        elif fault == "hang":
            self.over.wait()
        else:
            # Closing with a linger of nothing sends a reset.
            linger = struct.pack("ii", 1, 0)
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.connection.close()

    def forward(self, request, body):
        client = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=30)
        client.request(request.command, request.path, body=body, headers=dict(request.headers))
        answer = client.getresponse()
        data = answer.read()
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OF_THE_CONNECTION:
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else len(data)
        request.send_header("Content-Length", str(length or 0))
        request.end_headers()
        request.wfile.write(data)
        client.close()

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
