# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What really arrived: a subscriber that cannot lose anything by itself. It takes QoS 0, so that it
has nothing to answer and what a killed broker left in the socket is still read.
"""

import json
import socket
import struct
import time
from collections import namedtuple

from support.fakes import Threaded
from support.wait import DEADLINE, wait_until

Arrival = namedtuple("Arrival", "topic payload seq boot time retain received")

# What a broker needs so that it drops nothing of what it has for the witness.
LOSSLESS = "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error"

USER_PROPERTY = 0x26
# MQTT 5.0, section 2.2.2.2: how long the value of each other property of a PUBLISH is.
FIXED_PROPERTIES = {0x01: 1, 0x02: 4, 0x23: 2}
COUNTED_PROPERTIES = (0x03, 0x08, 0x09)


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def varint(data, at):
    """A variable byte integer and where it ends; None if it is not whole."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    return None


def packets(data):
    """Takes the whole packets off a bytearray: (type and flags, body) of each."""
    while len(data) > 1:
        length = varint(data, 1)
        if not length or len(data) < length[0] + length[1]:
            return
        end = length[0] + length[1]
        packet = data[0], bytes(data[length[1] : end])
        del data[:end]
        yield packet


def counted(body, at):
    end = at + 2 + struct.unpack_from(">H", body, at)[0]
    return body[at + 2 : end], end


def user_properties(body):
    """Of the properties of a PUBLISH."""
    found, at = {}, 0
    while at < len(body):
        kind, at = body[at], at + 1
        if kind == USER_PROPERTY:
            name, at = counted(body, at)
            value, at = counted(body, at)
            found[name.decode()] = value.decode()
        elif kind in COUNTED_PROPERTIES:
            at = counted(body, at)[1]
        else:
            at += FIXED_PROPERTIES[kind]
    return found


def parse_publish(head, body):
    topic, at = counted(body, 0)
    assert head >> 1 & 3 == 0, "the witness asked for QoS 0"
    length, at = varint(body, at)
    properties = user_properties(body[at : at + length])
    seq = int(properties["seq"]) if "seq" in properties else None
    return Arrival(
        topic.decode(),
        body[at + length :],
        seq,
        properties.get("boot"),
        properties.get("time"),
        bool(head & 1),
        time.monotonic(),
    )


class Witness(Threaded):
    """Subscribes to one filter, and again whenever the broker is back."""

    def __init__(self, port, topic_filter):
        self.arrivals = []
        self._port = port
        self._filter = topic_filter
        self._subscriptions = 0
        super().__init__()
        self.wait_subscribed(0)

    def serve(self):
        while not self.over():
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
                    self._listen(connection)
            except OSError:
                time.sleep(0.005)

    def _listen(self, connection):
        name = f"witness-{self._filter}"
        connect = text("MQTT") + bytes([5, 2, 0, 0, 0]) + text(name)
        subscribe = bytes([0, 1, 0]) + text(self._filter) + b"\0"
        for kind, body in ((0x10, connect), (0x82, subscribe)):
            assert len(body) < 128
            connection.sendall(bytes([kind, len(body)]) + body)
        connection.settimeout(0.1)
        data = bytearray()
        while not self.over():
            try:
                more = connection.recv(65536)
            except socket.timeout:
                continue
            if not more:
                return
            data += more
            for head, body in packets(data):
                if head >> 4 == 3:
                    self.arrivals.append(parse_publish(head, body))
                elif head >> 4 == 9:
                    self._subscriptions += 1

    def mark(self):
        """How often it has subscribed, for wait_subscribed()."""
        return self._subscriptions

    def wait_subscribed(self, mark, timeout=DEADLINE):
        wait_until(lambda: self._subscriptions > mark, "the witness to be subscribed", timeout)

    def of(self, topic, since=0):
        return [arrival for arrival in self.arrivals[since:] if arrival.topic == topic]

    def objects(self, topic, since=0):
        return [json.loads(arrival.payload) for arrival in self.of(topic, since)]

    def wait(self, topic, wanted=lambda value: True, since=0, count=1, timeout=DEADLINE):
        """The count-th arrival on the topic whose payload, as JSON, is wanted."""

        def fitting():
            found = [each for each in self.of(topic, since) if wanted(json.loads(each.payload))]
            return found[count - 1] if len(found) >= count else None

        return wait_until(
            fitting,
            lambda: f"{count} on {topic}; there are {[each.payload for each in self.of(topic, since)][-10:]}",
            timeout,
        )
