# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Some 4,000 answers of a broker, nearly all of them wrong, made by rule: every packet type with every
flag, every property in every packet, every reason code, packets that are cut at each byte, lengths
that lie, text that is no text, topics that are none, packets too many. Always the same ones.

    for case in bad_answers():
        # All that a client says before case.step is answered well, in MQTT of case.level.
        # Then it is sent case.answer(packet_id), and nothing after that.
"""

import random
import re
import struct
from collections import namedtuple

from support import mqtt
from support.mqtt import packet, properties, variable

# In whose place the answer is sent: that to CONNECT, to the first SUBSCRIBE, to the first PUBLISH at
# QoS 1; or once all of these have been answered well.
CONNECT, SUBSCRIBE, PUBLISH, LATER = "connect", "subscribe", "publish", "later"

TOPIC = "lamp1/commands"
TEXT = b'{"led": true}'

# By one of each of these libmosquitto 2.0.11 ends the process that it is in.
FATAL = (
    "unknown property 0x7f$|^PUBLISH, property 0x1f cut short|^PUBLISH, length of properties 80|"
    "^(PUBLISH|UNSUBACK), 127 bytes of properties|^a topic of 1 in"
)

# What the answers have until answer() gives them that of the packet that they answer.
PACKET_ID = 0x5ABC
MARK = mqtt.number(PACKET_ID)


class Case(namedtuple("Case", "name level step data")):
    """name is the only one of that name; data: bytes, with MARK for the packet id."""

    def answer(self, packet_id):
        return self.data.replace(MARK, mqtt.number(packet_id))


def value(form):
    """A value of a property's, as the standard wants it."""
    text = mqtt.text("topic")
    return {
        "byte": b"\1", "two": b"\0\x20", "four": b"\0\1\0\0", "varint": b"\x07", "string": text,
        "binary": b"\0\2\xff\0", "pair": mqtt.text("name") + text,
    }[form]  # fmt: skip


def known():
    """Each property, well formed."""
    return {kind: bytes([kind]) + value(form) for kind, form in mqtt.PROPERTIES.items()}


def unknown():
    """Numbers of properties that there are not, each with a byte that may be its value."""
    numbers = [n for n in range(0x30) if n not in mqtt.PROPERTIES] + [0x40, 0x7E, 0x7F, 0x80, 0xFF, 268435455]
    return {n: variable(n) + b"\1" for n in numbers}


# What may carry properties: where it is sent, and all of the packet but those.
CARRIERS = {
    "CONNACK": (CONNECT, lambda p: packet(0x20, b"\0\0" + p)),
    "SUBACK": (SUBSCRIBE, lambda p: packet(0x90, MARK + p + b"\1")),
    "PUBACK": (PUBLISH, lambda p: packet(0x40, MARK + b"\0" + p)),
    "PUBREC": (PUBLISH, lambda p: packet(0x50, MARK + b"\0" + p)),
    "PUBREL": (LATER, lambda p: packet(0x62, MARK + b"\0" + p)),
    "PUBCOMP": (PUBLISH, lambda p: packet(0x70, MARK + b"\0" + p)),
    "PUBLISH": (LATER, lambda p: packet(0x30, mqtt.text(TOPIC) + p + TEXT)),
    "UNSUBACK": (LATER, lambda p: packet(0xB0, MARK + p + b"\0")),
    "DISCONNECT": (LATER, lambda p: packet(0xE0, b"\0" + p)),
    "AUTH": (LATER, lambda p: packet(0xF0, b"\x18" + p)),
}


def each_property():
    for name, (step, carry) in CARRIERS.items():
        for kind, data in known().items():
            short = data[:-1]
            yield f"{name}, property {kind:#x}", 5, step, carry(properties(5, data))
            yield f"{name}, property {kind:#x} twice", 5, step, carry(properties(5, data, data))
            yield f"{name}, property {kind:#x} cut short", 5, step, carry(properties(5, short))
        for kind, data in unknown().items():
            yield f"{name}, unknown property {kind:#x}", 5, step, carry(properties(5, data))
        for length in (1, 2, 5, 127, 128, 16383, 268435455):
            yield f"{name}, {length} bytes of properties that are not there", 5, step, carry(variable(length))
        for data in (b"\x80", b"\xff\xff\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x7f", b"\x80\0"):
            yield f"{name}, length of properties {data.hex()}", 5, step, carry(data)


def each_value():
    """Properties whose values are not allowed: sections 3.2.2.3 and 3.3.2.3."""
    for name, kind, form in (
        ("CONNACK", 0x21, b"\0\0"), ("CONNACK", 0x21, b"\0\1"), ("CONNACK", 0x24, b"\2"), ("CONNACK", 0x24, b"\xff"),
        ("CONNACK", 0x25, b"\2"), ("CONNACK", 0x25, b"\0"), ("CONNACK", 0x27, b"\0\0\0\0"),
        ("CONNACK", 0x27, b"\0\0\0\1"), ("CONNACK", 0x13, b"\0\0"), ("CONNACK", 0x13, b"\0\1"),
        ("CONNACK", 0x12, mqtt.text("")), ("CONNACK", 0x12, mqtt.text("x" * 65535)), ("CONNACK", 0x28, b"\2"),
        ("CONNACK", 0x22, b"\xff\xff"), ("CONNACK", 0x11, b"\xff\xff\xff\xff"), ("PUBLISH", 0x01, b"\2"),
        ("PUBLISH", 0x0B, b"\0"), ("PUBLISH", 0x0B, b"\xff\xff\xff\xff\x7f"), ("PUBLISH", 0x23, b"\0\0"),
        ("PUBLISH", 0x23, b"\xff\xff"), ("PUBLISH", 0x02, b"\0\0\0\0"), ("PUBLISH", 0x08, mqtt.text("")),
        ("PUBLISH", 0x08, mqtt.text("a/#")), ("PUBLISH", 0x09, mqtt.text("x" * 65535)),
        ("PUBLISH", 0x26, mqtt.text("") * 2),
    ):  # fmt: skip
        step, carry = CARRIERS[name]
        yield f"{name}, property {kind:#x} = {form[:8].hex()}", 5, step, carry(properties(5, bytes([kind]) + form))


def each_head():
    """Every type with every flag, also those that only a client may send."""
    for level in (5, 4):
        none = properties(level)
        bodies = {
            1: mqtt.text("MQTT") + bytes([level, 2, 0, 60]) + none + mqtt.text("me"), 2: b"\0\0" + none,
            3: mqtt.text(TOPIC) + MARK + none + TEXT, 8: MARK + none + mqtt.text("#") + b"\1",
            9: MARK + none + b"\1", 10: MARK + none + mqtt.text("#"), 11: MARK + none,
        }  # fmt: skip
        bodies.update({kind: MARK for kind in (4, 5, 6, 7)})
        for head in range(256):
            for step in (CONNECT, LATER) if level == 5 else (LATER,):
                data = packet(head, bodies.get(head >> 4, b""))
                yield f"head {head:#04x} in MQTT {level}, {step}", level, step, data


def each_code():
    for code in range(256):
        byte = bytes([code])
        yield f"CONNACK {code} in MQTT 5", 5, CONNECT, mqtt.connack(5, code)
        yield f"SUBACK {code} in MQTT 5", 5, SUBSCRIBE, mqtt.suback(5, PACKET_ID, byte)
        yield f"PUBACK {code} in MQTT 5", 5, PUBLISH, packet(0x40, MARK + byte)
        yield f"DISCONNECT {code} in MQTT 5", 5, LATER, packet(0xE0, byte)
        if code < 8 or code >= 0x7F and code % 16 == 0:
            yield f"CONNACK {code} in MQTT 3.1.1", 4, CONNECT, mqtt.connack(4, code)
            yield f"SUBACK {code} in MQTT 3.1.1", 4, SUBSCRIBE, mqtt.suback(4, PACKET_ID, byte)
            yield f"CONNACK with flags {code}", 5, CONNECT, mqtt.connack(5, 0, present=code)
            yield f"PUBREC {code} in MQTT 5", 5, PUBLISH, packet(0x50, MARK + byte)


def whole():
    """A good packet of each kind, with all that it may have."""
    reason = b"\x1f" + mqtt.text("why")
    pair = known()[mqtt.USER_PROPERTY]
    for level in (5, 4):
        more = (reason, pair) if level == 5 else ()
        yield "CONNACK", level, CONNECT, mqtt.connack(level, 0, *more)
        yield "SUBACK", level, SUBSCRIBE, mqtt.suback(level, PACKET_ID, b"\1", *more)
        yield "PUBACK", level, PUBLISH, mqtt.acknowledgement(level, mqtt.PUBACK, PACKET_ID, 0, *more)
        for qos in (0, 1, 2):
            yield f"PUBLISH at QoS {qos}", level, LATER, mqtt.publish(level, TOPIC, TEXT, qos, 7, *more[1:])
        if level == 5:
            yield "DISCONNECT", level, LATER, packet(0xE0, b"\x8b" + properties(level, *more))


def each_cut():
    """As many bytes of it as that; and shorter than it ought to be, where it says so itself."""
    for name, level, step, data in whole():
        assert data[1] < 128, "one byte of length"
        for size in range(1, len(data)):
            yield f"{name} of MQTT {level}, {size} bytes of it", level, step, data[:size]
        for size in range(len(data) - 2):
            short = data[:1] + bytes([size]) + data[2 : 2 + size]
            yield f"{name} of MQTT {level}, complete with {size} bytes", level, step, short


def each_length():
    for name, level, step, data in whole():
        for length in (b"\0", b"\x01", b"\x7f", b"\x80\x01", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01",
                       b"\xff\xff\xff\xff\xff", b"\x80\0", b"\x82\x80\0"):  # fmt: skip
            yield f"{name} of MQTT {level}, length {length.hex()}", level, step, data[:1] + length + data[2:]
    for name, level, step, data in whole():
        more = data[:1] + bytes([data[1] + 3]) + data[2:] + b"\0\xff\0"
        yield f"{name} of MQTT {level}, three bytes too many", level, step, more


NO_TEXTS = (
    b"\x80", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80", b"\xff\xfe", b"a\0b", b"\xef\xbf\xbf", b"\x01", b"\x7f",
)  # fmt: skip


def each_text():
    for bad in NO_TEXTS:
        string = mqtt.number(len(bad)) + bad
        for level in (5, 4):
            yield f"topic {bad.hex()} in MQTT {level}", level, LATER, mqtt.publish(level, b"lamp1/" + bad, TEXT)
        pair = bytes([mqtt.USER_PROPERTY]) + string + string
        for name in ("CONNACK", "PUBLISH", "SUBACK", "DISCONNECT"):
            step, carry = CARRIERS[name]
            yield f"{name}, user property {bad.hex()}", 5, step, carry(properties(5, pair))
        yield f"reason {bad.hex()}", 5, LATER, packet(0xE0, b"\x8b" + properties(5, b"\x1f" + string))


def each_topic():
    for topic in ("", "#", "+", "lamp1/#", "lamp1/+", "lamp1/commands/#", "/", "//", "$SYS/broker", "lamp1",
                  "lamp1/commands/", "/lamp1/commands", "LAMP1/commands", "lamp1/state", "lamp1/status",
                  "lamp1/telemetry", "groups/default/commands", "x" * 65535, "a/" * 32767):  # fmt: skip
        for level in (5, 4):
            name = f"topic {topic[:24]!r} of {len(topic)} in MQTT {level}"
            yield name, level, LATER, mqtt.publish(level, topic, TEXT)
    for alias in (0, 1, 10, 65535):
        one = b"\x23" + mqtt.number(alias)
        yield f"alias {alias} without a topic", 5, LATER, mqtt.publish(5, "", TEXT, 0, 0, one)
    for length in (1, 15, 255, 65535):
        yield f"a topic of {length} in a shorter packet", 5, LATER, packet(0x30, mqtt.number(length) + b"lamp1")


def each_repetition():
    """What comes twice, uncalled for, or for what nobody sent."""
    for level in (5, 4):
        ack, sub = mqtt.connack(level), mqtt.suback(level, PACKET_ID)
        yield f"CONNACK twice in MQTT {level}", level, CONNECT, ack + ack
        yield f"CONNACK later in MQTT {level}", level, LATER, ack
        yield f"SUBACK before CONNACK in MQTT {level}", level, CONNECT, sub + ack
        yield f"PUBLISH before CONNACK in MQTT {level}", level, CONNECT, mqtt.publish(level, TOPIC, TEXT) + ack
        yield f"PINGRESP before CONNACK in MQTT {level}", level, CONNECT, b"\xd0\0" + ack
        yield f"SUBACK twice in MQTT {level}", level, SUBSCRIBE, sub + sub
        yield f"SUBACK of no code in MQTT {level}", level, SUBSCRIBE, mqtt.suback(level, PACKET_ID, b"")
        yield f"SUBACK of 1000 codes in MQTT {level}", level, SUBSCRIBE, mqtt.suback(level, PACKET_ID, b"\1" * 1000)
        for kind in (mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBREL, mqtt.PUBCOMP):
            one = mqtt.acknowledgement(level, kind, PACKET_ID)
            yield f"acknowledgement {kind} twice in MQTT {level}", level, PUBLISH, one + one
            for other in (0, 0xFFF0, 0xFFFF):
                data = mqtt.acknowledgement(level, kind, other)
                yield f"acknowledgement {kind} of {other} in MQTT {level}", level, LATER, data
        for other in (0, 0xFFF0):
            yield f"SUBACK of {other} in MQTT {level}", level, SUBSCRIBE, mqtt.suback(level, other)
        for qos in (1, 2):
            zero = mqtt.publish(level, TOPIC, TEXT, qos, 0)
            yield f"PUBLISH at QoS {qos} with id 0 in MQTT {level}", level, LATER, zero
            one = mqtt.publish(level, TOPIC, TEXT, qos, 9)
            yield f"PUBLISH at QoS {qos} 500 times with one id in MQTT {level}", level, LATER, one * 500
        many = b"".join(mqtt.publish(level, TOPIC, TEXT, 2, n) for n in range(1, 3000))
        yield f"3000 at QoS 2 that are never released in MQTT {level}", level, LATER, many
        yield f"PINGRESP 3000 times in MQTT {level}", level, LATER, b"\xd0\0" * 3000
        yield f"an empty payload in MQTT {level}", level, LATER, mqtt.publish(level, TOPIC, b"")
        yield f"nothing but zeros in MQTT {level}", level, LATER, bytes(4096)
        yield f"nothing but ones in MQTT {level}", level, LATER, b"\xff" * 4096
    many = struct.pack(">B", mqtt.USER_PROPERTY) + mqtt.text("a") * 2
    yield "20000 user properties", 5, LATER, mqtt.publish(5, TOPIC, TEXT, 0, 0, many * 20000)
    for name, data in (("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("TLS", b"\x15\x03\x01\0\2\2\x28"),
                       ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n")):  # fmt: skip
        yield f"{name} in place of MQTT", 5, CONNECT, data


def bad_answers():
    """All of them, as Case."""
    for each in (each_head, each_property, each_value, each_code, each_cut, each_length, each_text,
                 each_topic, each_repetition):  # fmt: skip
        for case in each():
            yield Case(*case)


def sample(level, count):
    """So many of them: what is fatal to an old library, and a choice that is always the same."""
    cases = [case for case in bad_answers() if case.level == level]
    fatal = [case for case in cases if re.search(FATAL, case.name)]
    rest = [case for case in cases if case not in fatal]
    return fatal + random.Random("bad answers").sample(rest, count - len(fatal))
