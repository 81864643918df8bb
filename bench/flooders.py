# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who floods in bench/floods: publishers at full speed, and a broker that sends what it likes.

Each is a process of its own, which ends with the one that has started it. Python is slow, so what they
send is made in pieces of many messages at a time; where each message is to differ, its number is put
in by one replace() for the whole piece.
"""
import ctypes
import itertools
import mmap
import os
import select
import signal
import socket
import struct
import sys

CHUNK = 64 << 10
MARK = b"########"  # where the 8 digits go that differ from piece to piece
# MQTT 5.0, section 2.1.2.
(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, _, _, PINGREQ,
 PINGRESP) = range(1, 14)
RESPONSE_TOPIC, CORRELATION_DATA = b"\x08", b"\x09"

_libc = ctypes.CDLL(None)


def end_with_parent():
    """For a new process: it is killed when the one that has started it ends, however that is."""
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Forked:
    """A process that runs target(*args)."""

    def __init__(self, target, *args):
        self.pid = os.fork()
        if self.pid == 0:
            self._run(target, args)

    def _run(self, target, args):
        end_with_parent()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        try:
            target(*args)
        except OSError:
            pass  # whom it floods has ended
        except BaseException as error:
            print(f"flooder: {error!r}", file=sys.stderr)
        finally:
            os._exit(0)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        os.waitpid(self.pid, 0)

    def close(self):
        self.kill()
        self.wait()


class Flood:
    """
    Begins and ends what begin(i) returns, in a process of its own: on a busy core that takes a while.
    """

    def __init__(self, begin):
        self._pipe, other = socket.socketpair()
        self._process = Forked(_lead, other, begin)
        other.close()
        self._pipe.setblocking(False)

    def begin(self, i):
        self._pipe.send(b"%d" % i)

    def end(self):
        self._pipe.send(b"end")

    def has_done(self):
        """Whether it has done what it was told last."""
        try:
            return bool(self._pipe.recv(1))
        except BlockingIOError:
            return False

    def close(self):
        self._process.close()
        self._pipe.close()


def _lead(pipe, begin):
    flooding = []
    while True:
        word = pipe.recv(16)
        if not word:
            return
        if word == b"end":
            for each in flooding:
                each.kill()
            for each in flooding:
                each.wait()
            flooding = []
        else:
            flooding = begin(int(word))
        pipe.send(b".")


# --- bytes of MQTT --------------------------------------------------------------------------------

def text(value):
    return struct.pack(">H", len(value)) + value


def variable(value):
    """A variable byte integer (MQTT 5.0, section 1.5.5)."""
    data = b""
    while True:
        value, digit = value >> 7, value & 0x7F
        data += bytes([digit | (0x80 if value else 0)])
        if not value:
            return data


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def publish(topic, payload, qos=0, packet_id=1, dup=False, level=5, properties=b""):
    body = text(topic) + (struct.pack(">H", packet_id) if qos else b"")
    body += variable(len(properties)) + properties if level == 5 else b""
    return packet(PUBLISH, body + payload, dup << 3 | qos << 1)


def connect(level):
    properties = b"\0" if level == 5 else b""
    return packet(CONNECT, text(b"MQTT") + bytes([level, 2, 0, 0]) + properties + text(b""))


def take_packets(inbox):
    """Takes the whole packets off a bytearray: kind, flags, body."""
    at = 0
    while len(inbox) - at > 1:
        length, shift, begin = 0, 0, at + 1
        while begin < len(inbox):
            byte, begin = inbox[begin], begin + 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            break
        if begin + length > len(inbox):
            break
        yield inbox[at] >> 4, inbox[at] & 15, bytes(inbox[begin:begin + length])
        at = begin + length
    del inbox[:at]


# --- pieces ---------------------------------------------------------------------------------------

def pieces(messages):
    """Endless pieces of the messages, which are repeated; each that has MARK gets a number there."""
    piece = b"".join(messages)
    piece *= max(1, CHUNK // len(piece))
    if MARK not in piece:
        yield from itertools.repeat(piece)
    for n in itertools.count():
        yield piece.replace(MARK, b"%08d" % (n % 10**8))


# --- publishers -----------------------------------------------------------------------------------

class Raw(Forked):
    """A client that sends these packets over and over, faster than a library would."""

    def __init__(self, port, packets, level=5):
        super().__init__(_send, port, packets, level)


def join(port, level=5):
    """A client's connection."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(connect(level))
    if connection.recv(4096)[:1] != bytes([CONNACK << 4]):
        raise SystemExit("a flooder is not let in by the broker")
    connection.settimeout(None)
    return connection


def _send(port, packets, level):
    connection = join(port, level)
    for piece in pieces(packets):
        connection.sendall(piece)


# --- the broker that sends what it likes ----------------------------------------------------------

def hostile_pieces():
    """What it sends: QoS 2 that is never released, duplicates, PINGRESP; endless pieces of each."""
    command = b'{"led": true}', b'{"led": false}'
    # Now and then a packet of an odd length, so that a read does not always end where a packet does.
    pings = packet(PINGRESP) * (CHUNK // 2) + packet(PUBACK, b"\xff\xff\0")
    unreleased = [publish(b"lamp1/commands", command[n % 2].ljust(1000), 2, n)
                  for n in range(1, 8192)]
    again = [publish(b"lamp1/commands", command[n % 2], qos, 7, dup=True)
             for n in range(500) for qos in (1, 2)]
    return [pieces(unreleased), pieces(again), pieces([pings])]


class Hostile:
    """In a broker's place, used as a Flood. It behaves until begin(), and again after end()."""

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = listener.getsockname()[1]
        self._content = mmap.mmap(-1, 1)  # shared: what it sends, from 1; 0: it behaves
        self._process = Forked(_serve, listener, self._content)
        listener.close()

    def begin(self, i):
        self._content[0] = 1 + i

    def end(self):
        self._content[0] = 0

    def has_done(self):
        return True

    def close(self):
        self._process.close()
        self._content.close()


class _Client:
    def __init__(self, connection):
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.inbox = connection, bytearray()
        self.outbox = memoryview(b"")  # what of a piece is still to be sent
        self.answers = bytearray()
        self.is_subscribed = False

    def read(self):
        """False when it has gone."""
        data = self.socket.recv(256 << 10)
        self.inbox += data
        for kind, flags, body in take_packets(self.inbox):
            self.is_subscribed |= kind == SUBSCRIBE
            self.answers += _answer(kind, flags, body)
        return bool(data)

    def write(self, source):
        if not self.outbox:
            more = bytes(self.answers)
            self.answers.clear()
            if source and self.is_subscribed:
                more += next(source)
            self.outbox = memoryview(more)
        if self.outbox:
            self.outbox = self.outbox[self.socket.send(self.outbox):]


def _answer(kind, flags, body):
    """What a broker answers in MQTT 5; of PUBREC it wants to know nothing."""
    if kind == CONNECT:
        return packet(CONNACK, b"\0\0\0")
    if kind == SUBSCRIBE:  # without properties, and one filter
        return packet(SUBACK, body[:2] + b"\0\1")
    if kind == PUBLISH and flags & 6:
        at = 2 + struct.unpack_from(">H", body)[0]
        return packet(PUBACK if flags & 2 else PUBREC, body[at:at + 2])
    if kind == PUBREL:
        return packet(PUBCOMP, body[:2])
    return packet(PINGRESP) if kind == PINGREQ else b""


def _serve(listener, content):
    sources, clients = [None, *hostile_pieces()], {}
    while True:
        source = sources[content[0]]
        writers = [each.socket for each in clients.values()
                   if each.outbox or each.answers or source and each.is_subscribed]
        ready, writable, _ = select.select([listener, *clients], writers, [], 0.01)
        if listener in ready:
            connection = listener.accept()[0]
            clients[connection] = _Client(connection)
            ready.remove(listener)
        for connection in {*ready, *writable}:
            if not _turn(clients[connection], connection in ready, connection in writable, source):
                connection.close()
                del clients[connection]


def _turn(client, is_readable, is_writable, source):
    try:
        goes_on = not is_readable or client.read()
        if is_writable:
            client.write(source)
        return goes_on
    except BlockingIOError:
        return True
    except OSError:
        return False
