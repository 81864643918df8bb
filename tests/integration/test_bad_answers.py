# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Each bad answer of a broker that there is a rule for, against the connector by itself: whatever it does
of it, it ends or goes on, and never damages its memory. libmosquitto 2.0 ends its process at some of
them, by assertions of its own; that is what it has a process of its own for.

    NIGHTLIGHT_BAD_ANSWERS=all pytest tests/integration/test_bad_answers.py

tries all 4,000, which takes some minutes; without it, one in four.
"""

import os
import time
from collections import Counter

import pytest

from support import connector, mqtt
from support.badanswers import CONNECT, LATER, PUBLISH, SUBSCRIBE, bad_answers
from support.connector import Connector
from support.hostile import Hostile

AT_ONCE = 8
PATIENCE = 0.25  # s, for a connector that lives on with what it was sent
LIMIT = 20  # s, for each; none needs it

STEPS = {mqtt.CONNECT: CONNECT, mqtt.SUBSCRIBE: SUBSCRIBE, mqtt.PUBLISH: PUBLISH}


class Round:
    """One case: a connector that connects, subscribes and publishes, until it is answered badly."""

    def __init__(self, case):
        self.case = case
        self.begin = time.monotonic()
        self.is_answered = None  # since when
        self.connector = None
        self.has_failed = False

    def start(self, directory, port, name):
        """The broker must know it by now."""
        self.connector = Connector(directory, port, name, protocol=self.case.level)

    def take(self):
        for each in self.connector.take():
            if each is None:
                break
            kind, _ = each
            if kind == connector.CONNECTED:
                self.connector.subscribe(1, "lamp1/commands")
            elif kind == connector.SUBSCRIBED:
                self.connector.publish(2, "lamp1/telemetry", b"{}")
            self.has_failed |= kind == connector.FAILED

    def turn(self):
        """The outcome, or None while it goes on."""
        self.take()
        now = time.monotonic()
        if self.connector.popen.poll() is not None:
            return self.end()
        assert now < self.begin + LIMIT, f"{self.case.name}: it hangs"
        return self.end() if self.is_answered and now > self.is_answered + PATIENCE else None

    def end(self):
        lives = self.connector.popen.poll() is None
        if lives:  # and hears the daemon
            self.connector.take()
            self.connector.send(connector.record(connector.PING))
            end = time.monotonic() + LIMIT
            while self.connector.popen.poll() is None:
                if any(each and each[0] == connector.PONG for each in self.connector.take()):
                    break
                assert time.monotonic() < end, f"{self.case.name}: it does not hear the daemon any more"
                time.sleep(0.002)
            lives = self.connector.popen.poll() is None
        if not lives:
            self.take()  # what it said last
        status, words = self.connector.end()
        if lives:
            return "lives"
        if status == 0:
            assert self.has_failed, f"{self.case.name}: it ended without a word"
            return "ends"
        # An assertion of the library's; nothing else may end it.
        assert status == -6 and "Assertion" in words, f"{self.case.name}: {status}, {words}"
        return "aborts"


class Answers:
    """What the hostile broker says, by the client id: c17 is sent the 17th case."""

    def __init__(self, hostile, rounds):
        self.hostile, self.rounds = hostile, rounds
        for kind in STEPS:
            hostile.answer(kind, self.answer)

    def answer(self, connection, packet):
        each = self.rounds.get(connection.connect.client_id)
        if not each or each.is_answered:
            return b""
        good = self.hostile.good(connection, packet)
        packet_id = self.packet_id(packet)
        if STEPS[packet.kind] == each.case.step:
            each.is_answered = time.monotonic()
            return each.case.answer(packet_id)
        if packet.kind == mqtt.PUBLISH and each.case.step == LATER:
            each.is_answered = time.monotonic()
            return good + each.case.answer(packet_id)
        return good

    @staticmethod
    def packet_id(packet):
        body = packet.body
        if packet.kind == mqtt.PUBLISH:
            at = 2 + int.from_bytes(body[:2], "big")
            return int.from_bytes(body[at : at + 2], "big")
        return int.from_bytes(body[:2], "big") if packet.kind == mqtt.SUBSCRIBE else 0


@pytest.mark.slow
def test_no_answer_of_a_broker_damages_a_connector(tmp_path):
    cases = list(bad_answers())
    assert len(cases) >= 3500
    if os.environ.get("NIGHTLIGHT_BAD_ANSWERS") != "all":
        cases = cases[::4]
    hostile, rounds, outcomes = Hostile(), {}, Counter()
    Answers(hostile, rounds)
    try:
        waiting = list(enumerate(cases))[::-1]
        while waiting or rounds:
            while waiting and len(rounds) < AT_ONCE:
                number, case = waiting.pop()
                name = f"c{number}"
                rounds[name] = Round(case)
                rounds[name].start(tmp_path, hostile.port, name)
            for name, each in list(rounds.items()):
                outcome = each.turn()
                if outcome:
                    outcomes[outcome] += 1
                    del rounds[name]
            time.sleep(0.002)
    finally:
        for each in rounds.values():
            each.connector.popen.kill()
            each.connector.popen.wait()
        hostile.close()
    print(dict(outcomes))
    assert sum(outcomes.values()) == len(cases)
    assert outcomes["ends"] > 100 and outcomes["lives"] > 100, outcomes  # both are tried
