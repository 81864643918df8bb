# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network between a daemon and its broker, and what happens to it."""

import select
import socket
import threading
import time
from collections import deque

from support.fakes import Threaded
from support.witness import packets

PUBACK = 4


class Link:
    """One connection: the daemon's end (None once it is gone) and the broker's."""

    def __init__(self, near, far):
        self.near, self.far = near, far
        self.answers = bytearray()  # of the broker, not yet a whole packet
        self.upward, self.downward = deque(), deque()  # on the way: when it arrives, bytes

    def ends(self):
        return [end for end in (self.near, self.far) if end]

    def lose_near(self):
        self.near.close()
        self.near = None
        self.downward.clear()

    def close(self):
        for end in self.ends():
            end.close()


class Proxy(Threaded):
    """
    Forwards to a port of loopback. refuse: takes no connection; frozen: takes bytes and forwards
    none; swallows_acks: the broker's PUBACKs get lost, all else goes through. What is delayed keeps
    its order, and arrives also if the daemon has gone meanwhile.
    """

    def __init__(self, port):
        self._far_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.refuse = self.frozen = self.swallows_acks = False
        self._delay_up = self._delay_down = 0
        self._bytes_left = None  # until the cut; None: for ever
        self._links = []
        self._lock = threading.Lock()
        super().__init__()

    def serve(self):
        while not self.over():
            sockets = [self._listener]
            with self._lock:
                if not self.frozen:
                    sockets += [end for link in self._links for end in link.ends()]
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
                if not self._serve(link, ready):
                    self._drop(link)
            except OSError:
                self._drop(link)

    def _serve(self, link, ready):
        if link.near in ready and not self._upward(link):
            if not link.upward:
                return False
            link.lose_near()
        if link.far in ready and not self._downward(link):
            return False
        if not self.frozen:
            self._arrive(link.upward, link.far)
            self._arrive(link.downward, link.near)
        return link.near or link.upward

    def _carry(self, way, end, data, delay):
        if delay or way:
            way.append((time.monotonic() + delay, data))
        else:
            end.sendall(data)

    def _arrive(self, way, end):
        while way and way[0][0] <= time.monotonic():
            end.sendall(way.popleft()[1])

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
                link.far.sendall(b"".join(late for _, late in link.upward) + data)
                link.upward.clear()
                self._bytes_left, self.refuse = None, True
                return False
        self._carry(link.upward, link.far, data, self._delay_up)
        return bool(data)

    def _downward(self, link):
        data = link.far.recv(65536)
        if not link.near:
            return bool(data)  # nobody hears it any more
        if not self.swallows_acks and not link.answers:
            self._carry(link.downward, link.near, data, self._delay_down)
            return bool(data)
        link.answers += data
        for head, body in packets(link.answers):
            if not (self.swallows_acks and head >> 4 == PUBACK):
                assert len(body) < 128, "as long as it is only acknowledgements"
                self._carry(link.downward, link.near, bytes([head, len(body)]) + body, self._delay_down)
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

    def delay(self, up=0, down=0):
        """What is sent from now on takes so many seconds."""
        with self._lock:
            self._delay_up, self._delay_down = up, down

    def leave_behind(self, delay):
        """
        Breaks the connections for the daemon, and takes a new one at once; what it has sent on the
        old ones, and is still on the way, arrives so many seconds later.
        """
        with self._lock:
            for link in [link for link in self._links if link.near]:
                link.upward = deque((time.monotonic() + delay, data) for _, data in link.upward)
                link.lose_near()

    def freeze(self):
        with self._lock:
            self.frozen = True

    def swallow_acks(self):
        with self._lock:
            self.swallows_acks = True

    def mend(self):
        with self._lock:
            self.refuse = self.frozen = self.swallows_acks = False
            self._delay_up = self._delay_down = 0
            self._bytes_left = None
