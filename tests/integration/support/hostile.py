# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A broker that answers as a test likes: well, wrongly, with raw bytes, with silence, with a reset.

    hostile.answer(mqtt.SUBSCRIBE, b"")             silence, from now on
    hostile.answer(mqtt.CONNECT, lambda connection, packet: bytes, or RESET, or CLOSE)
    hostile.behave()                                all answers are good ones again

One thread does everything, so an answer must not wait for anything.
"""

import select
import socket
import struct
import threading
import time

from support import mqtt
from support.fakes import Threaded
from support.wait import DEADLINE, wait_until
from support.witness import Witness, packets

RESET, CLOSE = object(), object()  # what an answer may be instead of bytes

# How much of a flood is made at a time, and waits in the socket: the reader sets the pace.
CHUNK = 64 << 10


class Connection:
    """
    One client. packets: what came, in order; sent: how many bytes it was sent; closed: when, by
    time.monotonic(); None while it is open.
    """

    def __init__(self, connection, count):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.number = connection, count
        self.opened, self.closed = time.monotonic(), None
        self.level, self.connect = 5, None
        self.packets, self.sent = [], 0
        self.is_subscribed = False
        self.inbox, self.outbox = bytearray(), bytearray()
        self.source = None  # an iterator of bytes, asked for more whenever the outbox is empty
        self.end = None  # RESET or CLOSE, once the outbox is empty
        self.reset_after = None  # so many bytes, and then a reset

    def ids(self, kind):
        """The packet ids of the acknowledgements of that kind that came."""
        return [int.from_bytes(each.body[:2], "big") for each in self.packets if each.kind == kind]

    def wants_to_write(self):
        return bool(self.outbox or self.source or self.end)

    def fill(self):
        while self.source and not self.outbox:
            more = next(self.source, None)
            if more is None:
                self.source = None
            else:
                self.outbox += more

    def write(self):
        """False when the connection is to be closed."""
        self.fill()
        if self.outbox:
            count = len(self.outbox)
            if self.reset_after is not None:
                count = min(count, self.reset_after - self.sent)
            sent = self.socket.send(self.outbox[: min(count, CHUNK)]) if count else 0
            del self.outbox[:sent]
            self.sent += sent
        if self.reset_after is not None and self.sent >= self.reset_after:
            self.end = RESET
            self.outbox.clear()
        return not self.end or bool(self.outbox)

    def shut(self):
        if self.end is RESET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
        self.closed = time.monotonic()
        self.outbox.clear()
        self.source = None


class Hostile(Threaded):
    """
    connections: all that there were; connects: their CONNECTs; published: every PUBLISH of theirs;
    arrivals: those that were acknowledged or need not be, so what a client may forget.

    What arrived is looked at as with a Witness, and an Account takes the one for the other.
    """

    of, objects, wait = Witness.of, Witness.objects, Witness.wait

    def __init__(self, host="127.0.0.1", port=0, listener=None):
        self._listener = listener or socket.create_server((host, port), backlog=100)
        self.port = self._listener.getsockname()[1]
        self.connections, self.connects = [], []
        self.published, self.arrivals = [], []
        self._answers = {}
        self._prepare = None
        self._lock = threading.RLock()
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        super().__init__()

    # --- what a test does to it ---

    def answer(self, kind, what):
        """To that kind of packet: bytes, RESET, CLOSE, or a function that is called for it."""
        with self._lock:
            self._answers[kind] = what if callable(what) else lambda *_: what

    def prepare(self, what):
        """what(connection) is called with each new connection, before anything was read."""
        with self._lock:
            self._prepare = what

    def behave(self):
        with self._lock:
            self._answers.clear()
            self._prepare = None

    def send(self, data, connection=None):
        """Raw bytes, or an iterator of them that is drained at the reader's pace."""
        with self._lock:
            connection = connection or self.newest()
            assert connection, "nobody is connected"
            if isinstance(data, (bytes, bytearray)):
                connection.outbox += data
            else:
                connection.source = iter(data)
        self.wake()

    def calm(self):
        """Ends what iterators still have."""
        with self._lock:
            for connection in self.connections:
                connection.source = None

    def cut(self, how=RESET):
        """Ends all connections."""
        with self._lock:
            for connection in self.connections:
                if not connection.closed:
                    connection.end, connection.source = how, None
                    connection.outbox.clear()
        self.wake()

    # --- what a test looks at ---

    def newest(self):
        """The youngest connection that is open, subscribed to something, and not about to end."""
        with self._lock:
            fit = [each for each in self.connections if each.is_subscribed and not each.closed and not each.end]
        return fit[-1] if fit else None

    def wait_connects(self, count, timeout=DEADLINE):
        wait_until(
            lambda: len(self.connects) >= count, lambda: f"{count} CONNECTs; {len(self.connects)} came", timeout
        )

    def wait_subscribed(self, since=0, timeout=DEADLINE):
        """A Connection that is subscribed, and not one of the first ones, if since is given."""

        def found():
            connection = self.newest()
            return connection if connection and connection.number >= since else None

        return wait_until(found, lambda: f"a subscription; there were {len(self.connects)} CONNECTs", timeout)

    # --- how it works ---

    def wake(self):
        try:
            self._waker.send(b"x")
        except BlockingIOError:
            pass  # it is awake

    def close(self):
        self.wake()
        super().close()

    def serve(self):
        while not self.over():
            with self._lock:
                alive = [each for each in self.connections if not each.closed]
                writers = [each.socket for each in alive if each.wants_to_write()]
            readers = [self._listener, self._wake, *(each.socket for each in alive)]
            ready, writable, _ = select.select(readers, writers, [], 0.05)
            with self._lock:
                if self._wake in ready:
                    self._wake.recv(4096)
                for each in alive:
                    self._turn(each, each.socket in ready, each.socket in writable)
                if self._listener in ready:
                    self._accept()
        self.cut(CLOSE)
        for each in self.connections:
            if not each.closed:
                each.shut()
        for each in (self._listener, self._wake, self._waker):
            each.close()

    def _accept(self):
        connection = Connection(self._listener.accept()[0], len(self.connections))
        self.connections.append(connection)
        if self._prepare:
            self._prepare(connection)

    def _turn(self, connection, is_readable, is_writable):
        try:
            goes_on = not is_readable or self._read(connection)
            if goes_on and (is_writable or connection.wants_to_write()):
                goes_on = connection.write()
        except BlockingIOError:
            return
        except OSError:
            goes_on = False
        if not goes_on:
            connection.shut()

    def _read(self, connection):
        data = connection.socket.recv(256 << 10)
        connection.inbox += data
        for head, body in packets(connection.inbox):
            packet = mqtt.Packet(head >> 4, head & 15, body, time.monotonic())
            if len(connection.packets) < 1 << 20:
                connection.packets.append(packet)
            answer = self._answers.get(packet.kind)
            # A test's answer may still want to know what came.
            publication = self._note(connection, packet)
            answer = answer(connection, packet) if answer else self.good(connection, packet)
            if answer is RESET or answer is CLOSE:
                connection.end = answer
                break
            connection.outbox += answer
            if publication and (publication.qos == 0 or acknowledges(answer, publication)):
                self.arrivals.append(publication)
        return bool(data)

    def _note(self, connection, packet):
        if packet.kind == mqtt.CONNECT:
            connection.connect = mqtt.read_connect(packet)
            connection.level = connection.connect.level
            self.connects.append(connection.connect)
        elif packet.kind == mqtt.PUBLISH:
            self.published.append(mqtt.read_publish(connection.level, packet, connection.number))
            return self.published[-1]
        elif packet.kind == mqtt.SUBSCRIBE:
            connection.is_subscribed = True
        return None

    def good(self, connection, packet):
        """What a broker answers."""
        level = connection.level
        if packet.kind == mqtt.CONNECT:
            return mqtt.connack(level)
        if packet.kind == mqtt.SUBSCRIBE:
            packet_id, filters = mqtt.read_subscribe(level, packet)
            return mqtt.suback(level, packet_id, b"\1" * len(filters))
        if packet.kind == mqtt.UNSUBSCRIBE:
            return mqtt.packet(mqtt.UNSUBACK << 4, packet.body[:2] + (b"\0\0" if level == 5 else b""))
        if packet.kind == mqtt.PUBLISH:
            publication = mqtt.read_publish(level, packet)
            kind = {0: None, 1: mqtt.PUBACK, 2: mqtt.PUBREC}[publication.qos]
            return mqtt.acknowledgement(level, kind, publication.packet_id) if kind else b""
        if packet.kind == mqtt.PUBREL:
            return mqtt.acknowledgement(level, mqtt.PUBCOMP, int.from_bytes(packet.body[:2], "big"))
        if packet.kind == mqtt.PINGREQ:
            return mqtt.packet(mqtt.PINGRESP << 4)
        return CLOSE if packet.kind == mqtt.DISCONNECT else b""


def acknowledges(answer, publication):
    kind = mqtt.PUBACK if publication.qos == 1 else mqtt.PUBREC
    return answer == mqtt.acknowledgement(4, kind, publication.packet_id)


def repeated(data):
    """The same bytes over and over, for Hostile.send(): many at a time, since Python is slow."""
    chunk = data * max(1, CHUNK // len(data))
    while True:
        yield chunk
