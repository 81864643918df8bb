# SPDX-License-Identifier: LGPL-2.1-or-later
"""What answers in mosquitto's place: nobody, an old broker, a dead name server."""

import select
import socket
import struct
import threading


class Threaded:
    """Runs serve() in a thread until close()."""

    def __init__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.serve()
        except OSError:
            if not self._over.is_set():
                raise

    def over(self):
        return self._over.is_set()

    def close(self):
        self._over.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


class BlackHole(Threaded):
    """A listener that accepts and never answers."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = []
        super().__init__()

    def serve(self):
        while not self.over():
            if select.select([self._listener], [], [], 0.05)[0]:
                self.connections.append(self._listener.accept()[0])
        for connection in self.connections:
            connection.close()
        self._listener.close()


class DeadNameServer(Threaded):
    """Takes questions on UDP and TCP port 53 of an address in 127/8 and answers none. Needs root."""

    def __init__(self, address):
        self.address = address
        self.questions = 0
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        super().__init__()

    def serve(self):
        while not self.over():
            if select.select([self._udp], [], [], 0.05)[0]:
                self._udp.recv(4096)
                self.questions += 1
        self._udp.close()


class OldBroker(Threaded):
    """
    A broker that knows only MQTT 3.1.1: it answers another level as that standard says (section
    3.1.2.2: return code 1, then the connection is closed). Keeps what is published.
    """

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.levels = []
        self.published = []
        self.subscribed = []
        self._clients = []
        super().__init__()

    def serve(self):
        while not self.over():
            if select.select([self._listener], [], [], 0.05)[0]:
                client = threading.Thread(target=self._client, args=[self._listener.accept()[0]])
                client.start()
                self._clients.append(client)
        self._listener.close()
        for client in self._clients:
            client.join(10)

    def _client(self, connection):
        connection.settimeout(0.2)
        with connection:
            try:
                while not self.over():
                    packet = self._read_packet(connection)
                    if not packet or not self._answer(connection, *packet):
                        return
            except OSError:
                return

    def _read(self, connection, count):
        data = b""
        while len(data) < count and not self.over():
            try:
                more = connection.recv(count - len(data))
            except socket.timeout:
                continue
            if not more:
                return None
            data += more
        return data if len(data) == count else None

    def _read_packet(self, connection):
        head = self._read(connection, 1)
        if not head:
            return None
        length = shift = 0
        while True:
            byte = self._read(connection, 1)
            if not byte:
                return None
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if not byte[0] & 0x80:
                body = self._read(connection, length) if length else b""
                return None if body is None else (head[0], body)

    def _answer(self, connection, head, body):
        kind = head >> 4
        if kind == 1:  # CONNECT
            name_length = struct.unpack(">H", body[:2])[0]
            level = body[2 + name_length]
            self.levels.append(level)
            refused = level != 4
            connection.sendall(bytes([0x20, 2, 0, 1 if refused else 0]))
            return not refused
        if kind == 3:  # PUBLISH
            qos = head >> 1 & 3
            end = 2 + struct.unpack(">H", body[:2])[0]
            self.published.append((body[2:end].decode(), body[end + (2 if qos else 0) :]))
            if qos == 1:
                connection.sendall(b"\x40\x02" + body[end : end + 2])
        elif kind == 8:  # SUBSCRIBE
            end = 4 + struct.unpack(">H", body[2:4])[0]
            self.subscribed.append(body[4:end].decode())
            connection.sendall(b"\x90\x03" + body[:2] + body[end : end + 1])
        elif kind == 12:  # PINGREQ
            connection.sendall(b"\xd0\x00")
        elif kind == 14:  # DISCONNECT
            return False
        return True
