# SPDX-License-Identifier: LGPL-2.1-or-later
"""Commands from anybody: the good ones are carried out whole, the others change nothing at all."""

import json

import pytest

from support import configs
from support.wait import holds_for, wait_until

LONG = 200 << 10

BAD = {
    "empty": b"",
    "not JSON": b"led_on = true",
    "truncated": b'{"led_on": tr',
    "open": b'{"led_on": true',
    "more behind it": b'{"led_on": true} x',
    "two objects": b'{"led_on": true}{"led_on": true}',
    "an array": b'[{"led_on": true}]',
    "a bare value": b"true",
    "null": b"null",
    "empty object": b"{}",
    "NaN": b'{"speed": NaN}',
    "infinity": b'{"speed": Infinity}',
    "1e400": b'{"speed": 1e400}',
    "a number json-c takes": b'{"speed": 1.}',
    "hexadecimal": b'{"speed": 0x10}',
    "single quotes": b"{'led_on': true}",
    "a comment": b'{"led_on": true /* please */}',
    "a trailing comma": b'{"led_on": true,}',
    "a number for a bool": b'{"led_on": 1}',
    "a string for a bool": b'{"led_on": "true"}',
    "null for a bool": b'{"led_on": null}',
    "a bool for a number": b'{"speed": true}',
    "a string for a number": b'{"speed": "5"}',
    "an object for a number": b'{"speed": {"value": 5}}',
    "above max": b'{"speed": 10.001}',
    "below min": b'{"speed": -1}',
    "beyond any integer": b'{"speed": 99999999999999999999999999}',
    "a number for a string": b'{"text": 5}',
    "a string with a NUL": b'{"text": "a\\u0000b"}',
    "a string too long": b'{"text": "' + b"x" * 300 + b'"}',
    "half a surrogate": b'{"text": "\\ud800"}',
    "a raw control character": b'{"text": "a\nb"}',
    "unknown key": b'{"lamp_on": true}',
    "the empty key": b'{"": true}',
    "a key too long": b'{"' + b"k" * 5000 + b'": true}',
    "repeated key": b'{"led_on": true, "led_on": true}',
    "repeated key, escaped": b'{"led_on": true, "led\\u005fon": false}',
    "one good and one unknown": b'{"led_on": true, "lamp_on": true}',
    "one good and one of wrong type": b'{"led_on": true, "speed": "fast"}',
    "one good and one out of range": b'{"speed": 5, "led_on": true, "text": "x", "fan": 7}',
    "an action": b'{"$action": "reboot"}',
    "an unknown envelope": b'{"$ttl": 5, "led_on": true}',
    "invalid UTF-8": b'{"text": "\xff\xfe"}',
    "overlong UTF-8": b'{"text": "\xc0\xaf"}',
    # Beyond what JSON may have; beyond max_message nothing comes in (test_hostile_payloads.py).
    "200 KiB": b'{"text": "' + b"x" * LONG + b'"}',
    "200 KiB of keys": b"{" + b",".join(b'"k%d": 1' % i for i in range(18_000)) + b"}",
    "200 KiB of blanks": b" " * LONG + b'{"led_on": true}',
    "depth 10,000": b'{"led_on": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "depth 10,000, open": b'{"a":' * 10_000,
    "log lines": b'{"led_on\\nerror forged": true}',
}


class House:
    """A device with a bool, a number and a string, all of them set to something known."""

    state = {"led_on": False, "speed": 3, "text": "hello", "fan": False}

    def __init__(self, broker, start_daemon, connect, value):
        self.files = {name: value(name) for name in self.state}
        self.light = value("light", 250)
        self.peer = connect(broker, "#")
        config = (
            configs.base(broker.port, "device")
            + configs.sensor("light", self.light)
            + configs.actuator("led_on", self.files["led_on"])
            + configs.actuator("speed", self.files["speed"], "type = number\nmin = 0\nmax = 10")
            + configs.actuator("text", self.files["text"], "type = string")
            + configs.actuator("fan", self.files["fan"])
        )
        self.daemon = start_daemon("lamp1", config)
        self.peer.wait("lamp1/state")
        self.command(self.state)
        self.expect("0\n", "3\n", "hello\n", "0\n")
        self.peer.wait("lamp1/state", self.state)

    def command(self, payload):
        self.peer.publish("lamp1/commands", payload)

    def expect(self, *texts):
        for file, text in zip(self.files.values(), texts):
            file.wait(text)

    def identities(self):
        return [file.identity() for file in self.files.values()]


@pytest.fixture
def house(broker, start_daemon, connect, value):
    return House(broker, start_daemon, connect, value)


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD.keys())
def test_a_bad_command_changes_nothing(house, payload):
    before, mark = house.identities(), house.daemon.mark()
    states = len(house.peer.objects("lamp1/state"))
    house.command(payload)
    (line, *_) = house.daemon.wait_log(r"^warning .*(command|reject|refuse)", mark)
    assert len(line) < 3000
    house.command({"led_on": True, "speed": 10})  # taken after it, so it is through with the other
    house.expect("1\n", "10\n", "hello\n", "0\n")
    assert house.identities()[2:] == before[2:]
    wanted = {**house.state, "led_on": True, "speed": 10}
    house.peer.wait("lamp1/state", wanted)
    assert all(
        state in (house.state, wanted) or state in partial(house.state, wanted)
        for state in house.peer.objects("lamp1/state")[states:]
    )


def partial(old, new):
    """Between two states, one actuator after the other."""
    return [{**old, "led_on": new["led_on"]}, {**old, "speed": new["speed"]}]


def test_nothing_of_a_bad_command_is_ever_applied(house):
    before = house.identities()
    for payload in BAD.values():
        house.command(payload)
    house.command({"text": "the end"})
    house.files["text"].wait("the end\n")
    assert house.identities()[:2] == before[:2]
    assert house.files["led_on"].read() == "0\n"


def test_refusals_are_counted_and_their_log_is_limited(house):
    mark = house.daemon.mark()
    for _ in range(500):
        house.command(b'{"lamp_on": true}')
    house.command({"text": "the end"})
    house.files["text"].wait("the end\n")
    assert 1 <= len(house.daemon.grep("^warning", mark)) <= 100
    house.daemon.stop()
    final = house.peer.wait("lamp1/status", lambda status: status["status"] == "offline")
    online = [status for status in house.peer.objects("lamp1/status") if "rejected" in status]
    assert online, f"no status with a counter: {house.peer.objects('lamp1/status')}"
    assert (online + [final])[-1].get("rejected", online[-1]["rejected"]) == 500


def test_a_refusal_shows_in_the_status_though_more_are_coming(house):
    def some_rejected():
        house.command(b'{"lamp_on": true}')
        return [each for each in house.peer.objects("lamp1/status") if each.get("rejected", 0) > 0]

    wait_until(some_rejected, "a status that counts the refusals", 5)


@pytest.mark.parametrize(
    "command,files",
    {
        "whole number": ({"speed": 7}, ["0\n", "7\n", "hello\n", "0\n"]),
        "fraction": ({"speed": 2.5}, ["0\n", "2.5\n", "hello\n", "0\n"]),
        "limits": ({"speed": 10}, ["0\n", "10\n", "hello\n", "0\n"]),
        "several": ({"led_on": True, "fan": True}, ["1\n", "3\n", "hello\n", "1\n"]),
        "umlaut": ({"text": "Grüße"}, ["0\n", "3\n", "Grüße\n", "0\n"]),
        "empty text": ({"text": ""}, ["0\n", "3\n", "\n", "0\n"]),
    }.values(),
)
def test_a_good_command_is_carried_out(house, command, files):
    house.command(command)
    house.expect(*files)
    house.peer.wait("lamp1/state", {**house.state, **command})


def test_numbers_in_every_form_of_json_are_taken(house):
    for payload, text in ((b'{"speed":1E1}', "10\n"), (b'{"speed":-0}', "0\n"), (b' {"speed" : 5e-1 }\n', "0.5\n")):
        house.command(payload)
        house.files["speed"].wait(text)


def test_commands_take_effect_in_their_order(house):
    for i in range(100):
        house.command({"speed": i % 10, "led_on": i % 2 == 0})
    house.command({"text": "the end"})
    house.files["text"].wait("the end\n")
    house.files["speed"].wait("9\n")  # each actuator has an order of its own
    assert house.files["led_on"].read() == "0\n"


def test_the_group_s_topic_commands_too(house):
    house.peer.publish("groups/default/commands", {"led_on": True})
    house.files["led_on"].wait("1\n")


def test_a_retained_command_reaches_a_device_that_starts_later(house):
    house.daemon.stop()
    house.peer.publish("lamp1/commands", {"led_on": True}, retain=True)
    house.daemon.start()
    house.files["led_on"].wait("1\n")


def test_an_actuator_that_fails_does_not_take_the_others_down(broker, start_daemon, connect, value, tmp_path):
    led = value("led")
    peer = connect(broker, "#")
    config = (
        configs.base(broker.port, "device")
        + configs.actuator("bad", tmp_path / "no" / "such" / "directory")
        + configs.actuator("led_on", led)
    )
    daemon = start_daemon("lamp1", config)
    peer.wait("lamp1/status", lambda status: status["status"] == "online")
    peer.publish("lamp1/commands", {"led_on": True})
    led.wait("1\n")
    peer.publish("lamp1/commands", {"bad": True})
    daemon.wait_log(r"^(error|warning) .*bad")
    peer.wait("lamp1/state", {"bad": None, "led_on": True})
    peer.publish("lamp1/commands", {"led_on": False})
    led.wait("0\n")


def test_the_state_is_null_until_it_is_known(broker, start_daemon, connect, value):
    known, unknown = value("known", 1), value("unknown")
    peer = connect(broker, "#")
    start_daemon(
        "lamp1",
        configs.base(broker.port, "device")
        + configs.actuator("known", known)
        + configs.actuator("unknown", unknown)
        + "[actuator text]\ndriver = log\ntype = string\n",
    )
    state = peer.wait("lamp1/state")
    assert state["unknown"] is None
    assert state["text"] is None
    assert state["known"] in (True, None)
    assert unknown.read() is None  # looking at it has not moved it
    peer.publish("lamp1/commands", json.dumps({"text": "shown"}))
    peer.wait("lamp1/state", lambda each: each["text"] == "shown")


def test_a_command_of_several_keys_is_one_state(broker, start_daemon, connect):
    dry_run = "".join(f"[actuator {name}]\ndriver = log\n" for name in "abc")
    start_daemon("lamp1", configs.base(broker.port, "device") + dry_run)
    peer = connect(broker, "#")
    peer.wait("lamp1/state", {"a": None, "b": None, "c": None})
    mark = peer.mark()
    on, off = dict.fromkeys("abc", True), dict.fromkeys("abc", False)
    for command in (on, off):
        peer.publish("lamp1/commands", command)
        peer.wait("lamp1/state", command, mark)
    assert peer.objects("lamp1/state", mark) == [on, off]


def test_a_flood_of_bad_commands_does_not_stop_the_sensors(house):
    mark = house.peer.mark()
    for _ in range(2000):
        house.peer.publish("lamp1/commands", BAD["truncated"], qos=0)
    house.peer.wait("lamp1/telemetry", since=mark, count=5)
    holds_for(house.daemon.alive, 0.1, "alive")
