# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands in an envelope: answered, carried out once, in time or not at all."""

import datetime
import json
import signal
import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from support import configs
from support.wait import holds_for, wait_until

REPLIES = "lamp1/replies"


def in_seconds(seconds):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return when.isoformat()


class Lamp:
    """A device with a lamp that has a safe state, a dimmer, and a slow one that a program moves."""

    def __init__(self, broker, make_daemon, connect, value, tmp_path):
        self.broker, self.connect = broker, connect
        self.led, self.level, self.calls = value("led"), value("level"), tmp_path / "calls"
        self.calls.touch()
        # Its time limit ends a program that nobody lets go on.
        script = tmp_path / "slow"
        self.gate = tmp_path / "gate"
        script.write_text(
            f"#!/bin/sh\necho \"$1\" >>{self.calls}\nwhile [ -e {self.gate} ]; do sleep 0.02; done\n"
            f"[ \"$1\" != broken ]\n"
        )
        script.chmod(0o755)
        config = (
            configs.base(broker.port, "device")
            + configs.actuator("led_on", self.led, "safe = no")
            + configs.actuator("level", self.level, "type = number\nmin = 0\nmax = 10")
            + f"[actuator slow]\ndriver = exec\ncommand = {script}\ntype = string\ntimeout = 20s\n"
        )
        self.peer = connect(broker, "#")
        self.daemon = make_daemon("lamp1", config).start()
        self.peer.wait("lamp1/state")

    def command(self, **command):
        """Keys with a leading underscore are the envelope's."""
        self.peer.publish("lamp1/commands", {key.replace("_", "$", key[0] == "_"): value for key, value in command.items()})

    def reply(self, id, count=1):
        reply = self.peer.wait(REPLIES, lambda reply: reply.get("$id") == id, count=count)
        assert set(reply) <= {"$id", "status", "reason", "state", "readings", "time"}
        return reply

    def replies(self):
        return self.peer.objects(REPLIES)

    def restart(self):
        mark = self.peer.mark()
        self.daemon.kill()
        self.daemon.start()
        self.peer.wait("lamp1/state", since=mark)

    def moves(self):
        """What the slow one was told, in order."""
        return self.calls.read_text().split()


@pytest.fixture
def lamp(broker, make_daemon, connect, value, tmp_path):
    return Lamp(broker, make_daemon, connect, value, tmp_path)


def test_a_command_with_an_id_is_answered_when_it_is_done(lamp):
    lamp.command(_id="a1", led_on=True, level=3)
    reply = lamp.reply("a1")
    assert reply["status"] == "done" and "reason" not in reply
    assert reply["state"] == {"led_on": True, "level": 3}
    assert abs(datetime.datetime.fromisoformat(reply["time"].replace("Z", "+00:00")).timestamp() - time.time()) < 60
    assert lamp.led.read() == "1\n"


def test_a_plain_command_gets_no_reply(lamp):
    lamp.command(led_on=True)
    lamp.led.wait("1\n")
    lamp.command(_id="after", led_on=False)
    lamp.reply("after")
    assert len(lamp.replies()) == 1


@pytest.mark.parametrize(
    "command,reason",
    [
        ({"led_on": 1}, "'led_on' takes a boolean"),
        ({"led_on": True, "lamp": True}, "there is no actuator 'lamp'"),
        ({"led_on": True, "level": 11}, "'level' takes 0 to 10"),
        ({"led_on": True, "$expire": "now"}, "did you mean '$expires'?"),
        ({"led_on": True, "$seq": -1}, "$seq"),
        ({"level": 3, "$for": "10s"}, "'level' has no safe state"),
        ({}, "no key"),
        ({"$action": "dance"}, "there is no action 'dance'"),
        ({"$action": "reboot"}, "no [action reboot]"),
        ({"$action": "sample", "sensors": ["light"]}, "no sensor 'light'"),
    ],
)
def test_what_is_wrong_is_rejected_and_changes_nothing(lamp, command, reason):
    lamp.peer.publish("lamp1/commands", {"$id": "x", **command})
    reply = lamp.reply("x")
    assert reply["status"] == "rejected" and reason in reply["reason"]
    assert lamp.led.read() is None and lamp.level.read() is None
    # It is not held against the id: the next one may be right.
    lamp.command(_id="x", led_on=True)
    assert lamp.reply("x", 2)["status"] == "done"


def test_a_duplicate_gets_the_same_reply_and_moves_nothing(lamp):
    lamp.command(_id="a1", slow="up")
    first = lamp.reply("a1")
    for i in range(3):
        lamp.command(_id="a1", slow="up")
        assert lamp.reply("a1", i + 2) == first
    assert lamp.moves() == ["up"]


def test_a_duplicate_of_one_under_way_waits_for_its_reply(lamp):
    lamp.gate.touch()
    lamp.command(_id="a1", slow="up")
    wait_until(lambda: lamp.moves() == ["up"], "the first")
    lamp.command(_id="a1", slow="up")
    lamp.command(_id="a1", slow="up")
    holds_for(lambda: not lamp.replies(), 0.3, "nothing is done yet")
    lamp.gate.unlink()
    assert lamp.reply("a1")["status"] == "done"
    lamp.command(_id="end", led_on=True)
    lamp.reply("end")
    assert len(lamp.replies()) == 2 and lamp.moves() == ["up"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_duplicate_is_known_after_a_restart(lamp, end):
    lamp.command(_id="a1", slow="up")
    first = lamp.reply("a1")
    getattr(lamp.daemon, end)()
    mark = lamp.peer.mark()
    lamp.daemon.start()
    lamp.peer.wait("lamp1/state", lambda state: state["slow"] == "up", mark)
    moves = lamp.moves()  # what it was last is set anew once
    lamp.command(_id="a1", slow="up")
    assert lamp.reply("a1", 2) == first
    assert lamp.moves() == moves


def test_the_reply_of_one_that_was_cut_off_comes_when_the_connection_is_back(lamp):
    lamp.gate.touch()
    lamp.command(_id="a1", slow="up")
    wait_until(lamp.moves, "it has begun")
    lamp.broker.kill()
    lamp.gate.unlink()
    time.sleep(0.3)
    lamp.daemon.signal(signal.SIGSTOP)
    lamp.broker.start()
    peer = lamp.connect(lamp.broker, "#")
    lamp.daemon.signal(signal.SIGCONT)
    assert peer.wait(REPLIES)["$id"] == "a1"


def test_a_failing_actuator_is_told_with_its_cause(lamp):
    lamp.command(_id="a1", slow="broken")
    reply = lamp.reply("a1")
    assert reply["status"] == "failed" and "slow" in reply["reason"] and "1" in reply["reason"]
    assert reply["state"] == {"slow": None}


def test_a_newer_command_supersedes_one_that_waits(lamp):
    lamp.gate.touch()
    lamp.command(_id="a1", slow="one")
    wait_until(lambda: lamp.moves() == ["one"], "the first has begun")
    lamp.command(_id="a2", slow="two")
    lamp.command(_id="a3", slow="three")
    lamp.command(_id="end", led_on=True)
    lamp.reply("end")
    lamp.gate.unlink()
    assert [lamp.reply(id)["status"] for id in ("a1", "a2", "a3")] == ["done", "superseded", "done"]
    assert lamp.moves() == ["one", "three"]


def test_a_lower_seq_comes_too_late(lamp):
    lamp.command(_id="new", _seq=7, led_on=True)
    lamp.command(_id="old", _seq=6, led_on=False)
    lamp.command(_id="other", _seq=1, level=3)  # an order for each actuator
    assert [lamp.reply(id)["status"] for id in ("new", "old", "other")] == ["done", "superseded", "done"]
    assert lamp.led.read() == "1\n"
    lamp.restart()
    lamp.command(_id="older", _seq=5, led_on=False)
    assert lamp.reply("older")["status"] == "superseded"
    lamp.command(led_on=False)  # without one it is as it ever was
    lamp.led.wait("0\n")


def test_what_has_expired_is_never_carried_out(lamp):
    lamp.command(_id="late", _expires=in_seconds(-1), led_on=True)
    assert lamp.reply("late")["status"] == "expired"
    lamp.command(_id="late", _expires=in_seconds(60), led_on=True)  # the same id again
    assert lamp.reply("late", 2)["status"] == "expired"
    assert lamp.led.read() is None
    lamp.command(_id="early", _expires=in_seconds(60), led_on=True)
    assert lamp.reply("early")["status"] == "done"
    assert lamp.led.read() == "1\n"


def test_what_expires_while_it_waits_is_not_carried_out(lamp):
    lamp.gate.touch()
    lamp.command(slow="one")
    wait_until(lambda: lamp.moves() == ["one"], "the first has begun")
    lamp.command(_id="late", _expires=in_seconds(0.3), slow="two")
    time.sleep(0.5)
    lamp.gate.unlink()
    assert lamp.reply("late")["status"] == "expired"
    lamp.peer.wait("lamp1/state", lambda state: state["slow"] == "one")
    assert lamp.moves() == ["one"]
    mark = lamp.peer.mark()
    lamp.daemon.kill()
    lamp.daemon.start()
    lamp.peer.wait("lamp1/state", lambda state: state["slow"] == "one", mark)
    assert "two" not in lamp.moves()


def test_a_lease_that_is_not_renewed_ends_in_the_safe_state(lamp):
    lamp.command(_id="a1", _for="2s", led_on=True)
    assert lamp.reply("a1")["status"] == "done"
    for _ in range(3):
        time.sleep(1)
        lamp.command(_for=2, led_on=True)
        assert lamp.led.read() == "1\n"
    begin = time.monotonic()
    lamp.led.wait("0\n")
    assert 1.5 < time.monotonic() - begin < 4
    lamp.peer.wait("lamp1/state", lambda state: state["led_on"] is False)
    lamp.command(_for="1s", led_on=True)
    lamp.command(led_on=True)  # for good
    lamp.led.wait("1\n")
    holds_for(lambda: lamp.led.read() != "0\n", 2, "there is no lease any more")


def test_a_lease_goes_on_over_a_restart(lamp):
    lamp.command(_id="a1", _for="3s", led_on=True)
    begin = time.monotonic()
    lamp.reply("a1")
    lamp.daemon.kill()
    lamp.daemon.start()
    holds_for(lambda: lamp.led.read() == "1\n", 1, "it lasts")
    lamp.led.wait("0\n")
    assert 2.5 < time.monotonic() - begin < 6


def test_a_lease_that_ends_while_the_daemon_is_down_begins_safe(lamp):
    lamp.command(_id="a1", _for="500ms", led_on=True)
    lamp.reply("a1")
    lamp.daemon.kill()
    assert lamp.led.read() == "1\n"
    time.sleep(0.6)
    lamp.daemon.start()
    lamp.led.wait("0\n")
    lamp.daemon.wait_log("its lease ended while the daemon did not run")


def test_what_it_was_last_is_set_anew(lamp):
    lamp.command(_id="a1", led_on=True, level=7)
    lamp.reply("a1")
    lamp.daemon.stop()
    lamp.led.write(0)  # a power cut
    lamp.level.path.unlink()
    lamp.daemon.start()
    lamp.led.wait("1\n")
    lamp.level.wait("7\n")


def properties(**values):
    properties = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def ask(lamp, payload, **values):
    client = lamp.peer._client
    client.publish("lamp1/commands", json.dumps(payload), 1, properties=properties(**values)).wait_for_publish(20)


def test_the_response_topic_and_the_correlation_data_are_honoured(lamp):
    ask(lamp, {"led_on": True}, ResponseTopic="me/answers", CorrelationData=b"\x00\xff7")
    reply = lamp.peer.wait("me/answers")
    assert reply["status"] == "done" and "$id" not in reply
    message = lamp.peer.received("me/answers")[0]
    assert message.properties.CorrelationData == b"\x00\xff7"
    ask(lamp, {"lamp": True}, ResponseTopic="me/answers", CorrelationData=b"8")
    assert lamp.peer.wait("me/answers", count=2)["status"] == "rejected"
    assert lamp.peer.received("me/answers")[1].properties.CorrelationData == b"8"
    assert not lamp.replies()


def test_a_response_topic_that_cannot_be_used_counts_as_none(lamp):
    ask(lamp, {"$id": "a1", "led_on": True}, ResponseTopic="$SYS/x")
    assert lamp.reply("a1")["status"] == "done"


def test_without_mqtt_5_there_is_an_id(start_broker, make_daemon, connect, value, tmp_path):
    broker = start_broker()
    daemon = make_daemon(
        "lamp1", configs.base(broker.port, "device", broker="protocol = 3.1.1") + configs.actuator("led_on", value("led"))
    ).start()
    peer = connect(broker, "#", protocol=mqtt.MQTTv311)
    peer.wait("lamp1/state")
    peer.publish("lamp1/commands", {"$id": "a1", "led_on": True})
    assert peer.wait(REPLIES)["status"] == "done"
    assert daemon.alive()


def test_a_flood_of_bad_commands_is_answered_from_memory(lamp):
    for i in range(500):
        lamp.peer.publish("lamp1/commands", {"$id": f"bad {i}", "lamp": True})
    lamp.command(_id="good", led_on=True)
    assert lamp.reply("good")["status"] == "done"
    lamp.peer.wait(REPLIES, lambda reply: reply["$id"] == "bad 499")
