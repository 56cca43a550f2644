"""A way to a server that can be cut and opened: to its clients the server is away."""

import contextlib
import socket
import threading


class Way:
    """Passes what comes to a port of its own on to another, while it is open."""

    def __init__(self, port):
        self.target, self.is_open = port, True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.passing = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Be away from now on, for those who are connected too."""
        self.is_open = False
        for each in self.passing:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def open(self):
        self.is_open = True

    def close(self):
        self.cut()
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                if not self.is_open:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.target))
                self.passing += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.close()
