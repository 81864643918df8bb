# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network between a daemon and its broker, and what happens to it."""

import select
import socket
import threading

from support.fakes import Threaded
from support.witness import packets

PUBACK = 4


class Link:
    """One connection: the daemon's end and the broker's."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.answers = bytearray()  # of the broker, not yet a whole packet

    def close(self):
        self.near.close()
        self.far.close()


class Proxy(Threaded):
    """
    Forwards to a port of loopback. refuse: takes no connection; frozen: takes bytes and forwards
    none; swallows_acks: the broker's PUBACKs get lost, all else goes through.
    """

    def __init__(self, port):
        self._far_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.refuse = self.frozen = self.swallows_acks = False
        self._bytes_left = None  # until the cut; None: for ever
        self._links = []
        self._lock = threading.Lock()
        super().__init__()

    def serve(self):
        while not self.over():
            sockets = [self._listener]
            with self._lock:
                if not self.frozen:
                    sockets += [end for link in self._links for end in (link.near, link.far)]
            try:
                ready = select.select(sockets, [], [], 0.02)[0]
            except (OSError, ValueError):
                continue  # cut meanwhile
            with self._lock:
                self._turn(ready)
        self.cut()
        self._listener.close()

    def _turn(self, ready):
        if self._listener in ready:
            self._accept()
        for link in list(self._links):
            try:
                if link.near in ready and not self._upward(link):
                    self._drop(link)
                elif link.far in ready and not self._downward(link):
                    self._drop(link)
            except OSError:
                self._drop(link)

    def _accept(self):
        near = self._listener.accept()[0]
        try:
            assert not self.refuse
            far = socket.create_connection(("127.0.0.1", self._far_port), 1)
        except (OSError, AssertionError):
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(1)
        self._links.append(Link(near, far))

    def _drop(self, link):
        self._links.remove(link)
        link.close()

    def _upward(self, link):
        data = link.near.recv(65536)
        if self._bytes_left is not None:
            data, whole = data[: self._bytes_left], len(data) < self._bytes_left
            self._bytes_left -= len(data)
            if not whole:
                link.far.sendall(data)
                self._bytes_left, self.refuse = None, True
                return False
        link.far.sendall(data)
        return bool(data)

    def _downward(self, link):
        data = link.far.recv(65536)
        if not self.swallows_acks and not link.answers:
            link.near.sendall(data)
            return bool(data)
        link.answers += data
        for head, body in packets(link.answers):
            if not (self.swallows_acks and head >> 4 == PUBACK):
                assert len(body) < 128, "as long as it is only acknowledgements"
                link.near.sendall(bytes([head, len(body)]) + body)
        return bool(data)

    # --- what the test does to it; when these return, it has happened ---

    def cut(self, refuse=False):
        """Breaks the connections; what was not forwarded is lost."""
        with self._lock:
            self.refuse = refuse
            self.frozen = False
            self._bytes_left = None
            while self._links:
                self._drop(self._links[0])

    def cut_after(self, count):
        """Breaks the connection after so many bytes of the daemon, and takes no more until mend()."""
        with self._lock:
            self._bytes_left = count

    def freeze(self):
        with self._lock:
            self.frozen = True

    def swallow_acks(self):
        with self._lock:
            self.swallows_acks = True

    def mend(self):
        with self._lock:
            self.refuse = self.frozen = self.swallows_acks = False
            self._bytes_left = None
