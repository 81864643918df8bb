# SPDX-License-Identifier: LGPL-2.1-or-later
"""A burst of telemetry at QoS 1 through a broker with its default settings: nothing is lost."""

import socket
import struct

import pytest

from support import configs
from support.wait import wait_until

COUNT = 20_000


def string(text):
    return struct.pack(">H", len(text)) + text.encode()


def packet(kind, body):
    length, size = b"", len(body)
    while True:
        size, digit = size >> 7, size & 0x7F
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body


def burst(port, payloads, n_devices=1):
    """Publishes at QoS 1 as fast as the socket takes it, and waits for each acknowledgement."""
    data = b"".join(
        packet(0x32, string(f"lamp{1 + i % n_devices}/telemetry") + struct.pack(">H", i + 1) + payload)
        for i, payload in enumerate(payloads)
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(packet(0x10, string("MQTT") + b"\x04\x02\x00\x3c" + string("burst")))
        assert connection.recv(4) == b"\x20\x02\x00\x00"
        connection.settimeout(0)
        received = bytearray()

        def step():
            nonlocal data
            try:
                while data:
                    data = data[connection.send(data[:65536]) :]
            except BlockingIOError:
                pass
            try:
                while True:
                    received.extend(connection.recv(65536))
            except BlockingIOError:
                pass
            return len(received) >= 4 * len(payloads)

        wait_until(step, lambda: f"{len(received) // 4} acknowledgements", 60)
    acknowledged = {struct.unpack(">H", received[i + 2 : i + 4])[0] for i in range(0, len(received), 4)}
    assert len(acknowledged) == len(payloads)


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [1, 5000], ids=["one device's backlog", "a fleet at once"])
def test_every_message_of_a_burst_is_received(start_broker, start_daemon, connect, n_devices):
    broker = start_broker("")
    rule = '[rule r]\nwhen = light < 0\nthen = {"led_on": true}\nelse = {"led_on": false}\n'
    server = start_daemon("server1", configs.server(broker.port, rule=rule))
    peer = connect(broker, "server1/status", "lamp1/commands")
    peer.wait("server1/status", lambda status: status["status"] == "online")
    burst(broker.port, [b'{"light": %d}' % i for i in range(COUNT)], n_devices)
    peer.publish("lamp1/telemetry", {"light": -1})  # behind all of them
    peer.wait("lamp1/commands", {"led_on": True}, timeout=60)
    assert not broker.grep("Outgoing messages are being dropped")
    server.stop()
    received = peer.wait("server1/status", lambda status: status["status"] == "offline")["received"]
    assert COUNT + 1 <= received <= COUNT + 10  # the server hears its own status, too
