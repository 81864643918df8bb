# SPDX-License-Identifier: LGPL-2.1-or-later
"""
MQTT packets as bytes, and back. Everywhere, level is that of CONNECT: 4 for MQTT 3.1.1, 5 for 5.

What is made here is well formed. A test that wants the contrary changes the bytes, or puts them
together from packet() and properties() itself.
"""

import struct
from collections import namedtuple

from support.witness import counted, text, varint

# MQTT 5.0, section 2.1.2.
(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK,
 PINGREQ, PINGRESP, DISCONNECT, AUTH) = range(1, 16)  # fmt: skip

# MQTT 5.0, section 2.2.2.2: how the value of each property is written.
PROPERTIES = {
    0x01: "byte", 0x02: "four", 0x03: "string", 0x08: "string", 0x09: "binary", 0x0B: "varint",
    0x11: "four", 0x12: "string", 0x13: "two", 0x15: "string", 0x16: "binary", 0x17: "byte",
    0x18: "four", 0x19: "byte", 0x1A: "string", 0x1C: "string", 0x1F: "string", 0x21: "two",
    0x22: "two", 0x23: "two", 0x24: "byte", 0x25: "byte", 0x26: "pair", 0x27: "four", 0x28: "byte",
    0x29: "byte", 0x2A: "byte",
}  # fmt: skip
MAXIMUM_PACKET_SIZE = 0x27
USER_PROPERTY = 0x26

# received: by time.monotonic().
Packet = namedtuple("Packet", "kind flags body received")
Will = namedtuple("Will", "topic payload qos retain")
Connect = namedtuple("Connect", "client_id level clean keepalive will username properties received")
# Begins as a witness's Arrival does, for those who take the one for the other.
Publication = namedtuple(
    "Publication", "topic payload seq boot time retain received qos dup packet_id connection"
)

# --- to bytes -----------------------------------------------------------------------------------------


def number(value):
    return struct.pack(">H", value)


def variable(value):
    """A variable byte integer, section 1.5.5."""
    data = b""
    while True:
        value, digit = value >> 7, value & 0x7F
        data += bytes([digit | (0x80 if value else 0)])
        if not value:
            return data


def packet(head, body=b""):
    return bytes([head]) + variable(len(body)) + body


def properties(level, *each):
    """All of a packet's, with their length before them; 3.1.1 has none."""
    return variable(len(b"".join(each))) + b"".join(each) if level == 5 else b""


def connack(level, code=0, *each, present=0):
    return packet(CONNACK << 4, bytes([present, code]) + properties(level, *each))


def suback(level, packet_id, codes=b"\1", *each):
    return packet(SUBACK << 4, number(packet_id) + properties(level, *each) + codes)


def acknowledgement(level, kind, packet_id, code=0, *each):
    """PUBACK, PUBREC, PUBREL or PUBCOMP; without a code and properties where they may be left out."""
    more = bytes([code]) + properties(level, *each) if level == 5 and (code or each) else b""
    return packet(kind << 4 | (2 if kind == PUBREL else 0), number(packet_id) + more)


def publish(level, topic, payload, qos=0, packet_id=1, *each):
    """topic: text, or bytes that need not be UTF-8."""
    name = text(topic) if isinstance(topic, str) else number(len(topic)) + topic
    rest = (number(packet_id) if qos else b"") + properties(level, *each)
    return packet(PUBLISH << 4 | qos << 1, name + rest + payload)


# --- from bytes ---------------------------------------------------------------------------------------


def _value(body, at, form):
    if form in ("byte", "two", "four"):
        size = {"byte": 1, "two": 2, "four": 4}[form]
        return int.from_bytes(body[at : at + size], "big"), at + size
    if form == "varint":
        return varint(body, at)
    value, at = counted(body, at)
    if form == "pair":
        other, at = counted(body, at)
        return (value.decode(), other.decode()), at
    return value if form == "binary" else value.decode(), at


def read_properties(level, body, at):
    """Each property's values by its number, and where the properties end."""
    found = {}
    if level != 5:
        return found, at
    size, at = varint(body, at)
    end = at + size
    while at < end:
        kind = body[at]
        value, at = _value(body, at + 1, PROPERTIES[kind])
        found.setdefault(kind, []).append(value)
    assert at == end, "properties longer than they say"
    return found, at


def read_connect(each):
    _, at = counted(each.body, 0)
    level, flags = each.body[at], each.body[at + 1]
    keepalive = int.from_bytes(each.body[at + 2 : at + 4], "big")
    found, at = read_properties(level, each.body, at + 4)
    client_id, at = counted(each.body, at)
    will = username = None
    if flags & 4:
        _, at = read_properties(level, each.body, at)
        topic, at = counted(each.body, at)
        payload, at = counted(each.body, at)
        will = Will(topic.decode(), payload, flags >> 3 & 3, bool(flags & 0x20))
    if flags & 0x80:
        username = counted(each.body, at)[0].decode()
    return Connect(client_id.decode(), level, bool(flags & 2), keepalive, will, username, found, each.received)


def read_publish(level, each, connection=None):
    topic, at = counted(each.body, 0)
    qos, packet_id = each.flags >> 1 & 3, None
    if qos:
        packet_id, at = int.from_bytes(each.body[at : at + 2], "big"), at + 2
    found, at = read_properties(level, each.body, at)
    mine = dict(found.get(USER_PROPERTY, []))
    return Publication(
        topic.decode(), each.body[at:], int(mine["seq"]) if "seq" in mine else None, mine.get("boot"),
        mine.get("time"), bool(each.flags & 1), each.received, qos, bool(each.flags & 8), packet_id, connection,
    )  # fmt: skip


def read_subscribe(level, each):
    """Its packet id and the topic filters."""
    _, at = read_properties(level, each.body, 2)
    filters = []
    while at < len(each.body):
        one, at = counted(each.body, at)
        filters.append(one.decode())
        at += 1  # the options
    return int.from_bytes(each.body[:2], "big"), filters
