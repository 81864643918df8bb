# SPDX-License-Identifier: LGPL-2.1-or-later
"""A broker that answers wrongly, or not at all: a lost connection, which nothing else notices."""

import threading
import time
from collections import namedtuple

import pytest

from support import badanswers, mqtt
from support.home import NOISE, OFTEN, Books, home, hostile, make_home, make_hostile  # noqa: F401 (fixtures)
from support.wait import wait_until

# A property that there is not (MQTT 5.0, section 2.2.2.2).
UNKNOWN = b"\x7f\0"


def connack(_packet):
    return mqtt.connack(5, 0, UNKNOWN)


def suback(packet):
    return mqtt.suback(5, mqtt.read_subscribe(5, packet)[0], b"\1", UNKNOWN)


def publish(_packet):
    return mqtt.publish(5, "lamp1/commands", b'{"led": true}', 0, 0, UNKNOWN)


def disconnect(_packet):
    return mqtt.packet(mqtt.DISCONNECT << 4, b"\0" + mqtt.properties(5, UNKNOWN))


@pytest.mark.parametrize("wrong", [connack, suback, publish, disconnect])
def test_an_unknown_property_costs_a_connection_and_no_more(make_home, hostile, wrong):
    kind = mqtt.CONNECT if wrong is connack else mqtt.SUBSCRIBE
    bad = threading.Event()

    def answer(connection, packet):
        return wrong(packet) if bad.is_set() or connection.number == 0 else hostile.good(connection, packet)

    hostile.answer(kind, answer)
    home = make_home(hostile).start()
    home.works(since=1)
    assert len(home.complaints()) == 1, "one packet, one line"

    bad.set()
    hostile.cut()
    count = len(hostile.connects)
    home.react_until(lambda: len(hostile.connects) >= count + 3, "it to be tried again", within=2)
    bad.clear()
    home.works(since=count)


class Mischief:
    """Gives a home's broker one bad answer after the other, a connection for each."""

    def __init__(self, home, level, count):
        self.home, self.level = home, level
        self.cases = badanswers.sample(level, count)
        self._case, self._answered = None, threading.Event()
        for kind in (mqtt.CONNECT, mqtt.SUBSCRIBE, mqtt.PUBLISH):
            home.broker.answer(kind, self._answer)

    def _answer(self, connection, packet):
        """What is acknowledged wrongly is never telemetry, of which the books are kept."""
        if self._answered.is_set():
            return b""
        good = self.home.broker.good(connection, packet)
        step = {mqtt.CONNECT: badanswers.CONNECT, mqtt.SUBSCRIBE: badanswers.SUBSCRIBE}.get(packet.kind)
        if packet.kind == mqtt.PUBLISH:
            publication = mqtt.read_publish(connection.level, packet)
            if publication.qos != 1 or not publication.topic.endswith("/status"):
                return good
            step = badanswers.PUBLISH
        if self._case.step == step:
            self._answered.set()
            return self._case.answer(packet_id(connection.level, packet))
        if self._case.step == badanswers.LATER and step == badanswers.PUBLISH:
            self._answered.set()
            return good + self._case.answer(0x7FFF)
        return good

    def begin(self, case):
        self._case = case
        self._answered.clear()
        self.home.broker.cut()

    def wait_answered(self):
        wait_until(self._answered.is_set, lambda: f"the step of {self._case.name}:\n{self.home.tail()}")

    def check(self):
        try:
            self.home.react(within=3)
        except AssertionError as error:
            raise AssertionError(f"after {self._case.name}: {error}") from None

    def end(self):
        self.home.broker.behave()
        self.home.broker.cut()
        self.home.works()


def packet_id(level, packet):
    if packet.kind == mqtt.CONNECT:
        return 1
    if packet.kind == mqtt.PUBLISH:
        return mqtt.read_publish(level, packet).packet_id
    return mqtt.read_subscribe(level, packet)[0]


@pytest.mark.slow
def test_bad_answers_do_no_harm(make_home, make_hostile):
    """100 of them, on several devices at a time. All 4,000 are tried on the connector alone."""
    mischiefs = []
    for n, (level, protocol) in enumerate([(5, "5"), (5, "5"), (5, "5"), (4, "3.1.1")]):
        home = make_home(make_hostile(), f"lamp{n}", f"protocol = {protocol}").start()
        home.works()
        mischiefs.append(Mischief(home, level, 75 if level == 5 else 25))
    for n, mischief in enumerate(mischiefs[:3]):
        mischief.cases = mischief.cases[n::3]
    for cases in zip(*(mischief.cases for mischief in mischiefs)):
        for mischief, case in zip(mischiefs, cases):
            mischief.begin(case)
        for mischief in mischiefs:
            mischief.wait_answered()
            mischief.check()
    for mischief in mischiefs:
        mischief.end()
    for mischief in mischiefs[:3]:  # 3.1.1 has no numbers to keep books by
        Books(mischief.home).settle()


@pytest.mark.slow
def test_a_reset_after_any_byte_of_the_answers_loses_nothing(home, hostile):
    """The daemon gets so many bytes of a good broker's answers, and then a reset."""
    # CONNACK, three SUBACKs or one, and the first PUBACKs.
    for count in range(36):
        hostile.prepare(lambda connection, count=count: setattr(connection, "reset_after", count))
        hostile.cut()
        wait_until(
            lambda count=count: any(each.reset_after == count and each.closed for each in hostile.connections),
            lambda count=count: f"{count} bytes of answers:\n{home.tail()}",
        )
    hostile.behave()
    hostile.cut()
    home.react(within=2)
    Books(home).settle()


ZERO = "[stream zero]\ntopic = {id}/zero\nqos = 0\n" + NOISE.format(name="zero1", interval="500ms", stream="zero")

# What is not answered, and how long that may last: 20 s for an attempt, three keepalives of 5 s for a
# connection, and what coarse timers and a busy machine add. Without a SUBACK much still works.
# telemetry: how rarely there is any, where the home has to be quiet: a client sends PINGREQ when it has
# nothing else to say, and what goes at QoS 0 must not pass for an acknowledgement of the rest.
Step = namedtuple("Step", "name kind limit protocol telemetry more", defaults=("5", None, ""))
SILENCES = [
    Step("connack", mqtt.CONNECT, 26),
    Step("suback", mqtt.SUBSCRIBE, None),
    Step("pingresp", mqtt.PINGREQ, 20, telemetry="1h"),
    Step("puback", mqtt.PUBLISH, 32),
    Step("oldpuback", mqtt.PUBLISH, 32, protocol="3.1.1"),
    Step("zeropuback", mqtt.PUBLISH, 32, telemetry="2s", more=ZERO),
]


class Silence:
    """A home whose broker answers all but one kind of packet, once it has worked."""

    def __init__(self, make_home, hostile, step):
        self.step = step
        settings = f"protocol = {step.protocol}\nkeepalive = 5s"
        self.home = home = make_home(hostile, step.name, settings, more=step.more).start()
        home.works()
        if step.telemetry:
            home.set_interval(step.telemetry)
        hostile.answer(step.kind, b"")
        if step.kind in (mqtt.CONNECT, mqtt.SUBSCRIBE):
            hostile.cut()
            hostile.wait_connects(2)
        self._mark, self._begin = home.daemon.mark(), time.monotonic()
        self._connects = len(hostile.connects)

    def is_over(self):
        if not self.step.telemetry:
            self.home.react(within=2)
        if self.step.limit is None or len(self.home.broker.connects) > self._connects:
            return True
        lasts = time.monotonic() - self._begin
        assert lasts < self.step.limit, f"{self.step.name} is borne for {lasts:.0f} s:\n{self.home.tail()}"
        return False

    def end(self):
        home = self.home
        assert self.step.limit is None or home.complaints(self._mark), home.tail()
        home.broker.behave()
        home.broker.cut()
        if self.step.telemetry:
            home.set_interval(OFTEN)
        home.react(within=2)


@pytest.mark.slow
def test_a_silence_at_any_step_is_noticed_and_loses_nothing(make_home, make_hostile):
    """Also that of a broker that answers all but what is published. All at a time: each takes a while."""
    silences = [Silence(make_home, make_hostile(), step) for step in SILENCES]
    while not all([silence.is_over() for silence in silences]):
        time.sleep(0.05)
    for silence in silences:
        silence.end()
    for silence in silences:
        if silence.step.protocol == "5":  # 3.1.1 has no numbers to keep books by
            Books(silence.home).settle()
        else:
            silence.home.works()
