"""A proxy before an S3 server that does harm by a plan; signatures stay valid.

Which requests are harmed is a function of the plan's seed, the verb, the key and how often it was
asked for: the same whatever else goes on at the same time.
"""

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

READS, WRITES = ("GET", "HEAD"), ("PUT", "POST", "DELETE")
OF_THE_CONNECTION = ("connection", "transfer-encoding", "content-length", "keep-alive")
REFUSALS = {
    "503": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "full": (403, "QuotaExceeded", "The quota of this bucket is used up."),
}
"""Status, code and message of what is answered instead."""
KINDS = (*REFUSALS, "reset", "hang", "short", "flip")


@dataclass(frozen=True)
class Plan:
    """What harm is done to which requests."""

    kind: str
    """One of KINDS. reset: the connection breaks in the middle of the body. hang: no answer.
    short: half of the body, and a length that says it is all. flip: one bit is another."""
    rate: float = 1.0
    """Part of the requests."""
    verbs: tuple = READS + WRITES
    """Those that may be harmed."""
    seed: int = 0
    key: str = ""
    """Only requests with this in their path."""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")


class Proxy:
    """Passes requests on, harmed by the plan, if there is one."""

    def __init__(self, address, target):
        self.target, self.plan = target, None
        self.harmed, self.requests = Counter(), Counter()
        self.asked, self.lock = Counter(), threading.Lock()
        self.healed = threading.Event()
        proxy = self

        class Handler(Request):
            owner = proxy

        self.server = Server(address, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def harm(self, plan):
        """Begin with this harm, and count from zero."""
        self.forget()
        self.healed.clear()
        self.plan = plan

    def forget(self):
        """Count from zero."""
        with self.lock:
            self.asked.clear()
            self.harmed.clear()
            self.requests.clear()

    def heal(self):
        """Do no more harm; what hangs ends."""
        self.plan = None
        self.healed.set()

    def chosen(self, verb, path):
        """Return the kind of harm for a request, None for none, and where in its body."""
        plan = self.plan
        with self.lock:
            self.requests[verb] += 1
            if plan is None or verb not in plan.verbs or plan.key not in path:
                return None, 0.0
            self.asked[verb, path] += 1
            rng = random.Random(f"{plan.seed} {verb} {path} {self.asked[verb, path]}")
            if rng.random() >= plan.rate:
                return None, 0.0
            self.harmed[plan.kind] += 1
            return plan.kind, rng.random()

    def close(self):
        self.heal()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Say nothing: a connection that breaks is for the client to notice."""


class Request(BaseHTTPRequestHandler):
    """One connection of a client, and one to the server behind it."""

    owner = None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.upstream = None

    def finish(self):
        if self.upstream is not None:
            self.upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def handle_any(self):
        kind, self.place = self.owner.chosen(self.command, self.path)
        size = int(self.headers.get("Content-Length") or 0)
        if kind == "reset" and self.command in WRITES:
            self.rfile.read(size // 2)
            self.reset()
            return
        body = self.rfile.read(size)
        if kind == "hang":
            self.owner.healed.wait()
            self.close_connection = True
        elif kind in REFUSALS:
            self.refuse(*REFUSALS[kind])
        else:
            self.forward(flipped(body, self.place) if kind == "flip" else body, kind)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - names of the library

    def forward(self, body, kind):
        answer, data = self.asked(body)
        if kind == "short" and self.command == "GET":
            data = data[: len(data) // 2]
        if kind == "flip" and self.command == "GET":
            data = flipped(data, self.place)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OF_THE_CONNECTION:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if kind == "reset":
            self.wfile.write(data[: len(data) // 2])
            self.reset()
        else:
            self.wfile.write(data)

    def asked(self, body):
        """Return the server's answer and its body; a connection that was closed is made again."""
        for attempt in (1, 2):
            fresh = self.upstream is None
            if fresh:
                self.upstream = http.client.HTTPConnection(*self.owner.target, timeout=60)
            try:
                self.upstream.request(self.command, self.path, body, dict(self.headers))
                answer = self.upstream.getresponse()
                return answer, answer.read()
            except (http.client.HTTPException, OSError):
                self.upstream.close()
                self.upstream = None
                if fresh or attempt == 2:
                    raise
        raise AssertionError("the second attempt returns or raises")

    def refuse(self, status, code, message):
        data = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def reset(self):
        # Closing with a linger of nothing sends a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_):
        pass


def flipped(data, place):
    """Return the bytes with one bit changed, at a place from 0 to 1."""
    if not data:
        return data
    index = int(place * len(data))
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
