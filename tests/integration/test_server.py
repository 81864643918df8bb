# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server role against a peer that is every device: what it listens to, decides, and refuses."""

import pytest

from support import configs
from support.wait import holds_for, wait_until

MEBI = 1 << 20

BAD_TELEMETRY = {
    "empty": b"",
    "not JSON": b"light 12",
    "truncated": b'{"light": 12',
    "an array": b"[12]",
    "a bare number": b"12",
    "NaN": b'{"light": NaN}',
    "minus infinity": b'{"light": -Infinity}',
    "1e400": b'{"light": -1e400}',
    "a string": b'{"light": "12"}',
    "a bool": b'{"light": false}',
    "null": b'{"light": null}',
    "an object": b'{"light": {"lux": 12}}',
    "repeated key": b'{"light": 900, "light": 12}',
    "invalid UTF-8": b'{"light": 12, "name": "\xff"}',
    "a mebibyte": b'{"light": 12, "x": "' + b"x" * MEBI + b'"}',
    "depth 10,000": b'{"light": 12, "x": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "a megabyte of brackets": b"[" * 1_000_000,
}

FORGED = [
    "a/b/c/telemetry",
    "/telemetry",
    "x" * 65 + "/telemetry",
    "x" * 5000 + "/telemetry",
    "lamp 1/telemetry",
    "lämp/telemetry",
    "lamp'; drop/telemetry",
    "..\u202e/telemetry",
    "%n%s%n/telemetry",
]


class House:
    def __init__(self, broker, start_daemon, connect, rule=configs.RULE, more="", filters=("#",)):
        self.broker = broker
        self.peer = connect(broker, *filters)
        self.daemon = start_daemon("server1", configs.server(broker.port, rule=rule) + more)
        self.peer.wait("server1/status", lambda status: status["status"] == "online")

    def say(self, light, device="lamp1", **keywords):
        payload = light if isinstance(light, bytes) else {"light": light}
        self.peer.publish(f"{device}/telemetry", payload, **keywords)

    def commands(self, device="lamp1", since=0):
        return [command["led_on"] for command in self.peer.objects(f"{device}/commands", since)]

    def expect(self, led_on, device="lamp1", since=0):
        self.peer.wait(f"{device}/commands", {"led_on": led_on}, since)


@pytest.fixture
def house(broker, start_daemon, connect):
    return House(broker, start_daemon, connect)


@pytest.fixture
def make_house(broker, start_daemon, connect):
    return lambda *args, **kwargs: House(broker, start_daemon, connect, *args, **kwargs)


@pytest.mark.parametrize("payload", BAD_TELEMETRY.values(), ids=BAD_TELEMETRY.keys())
def test_bad_telemetry_decides_nothing(house, payload):
    house.say(900)
    house.expect(False)
    house.say(payload)
    house.say(901)
    house.say(12, "lamp2")
    house.expect(True, "lamp2")  # decided after it, so the other is through
    assert house.commands() == [False]
    house.say(12)
    house.expect(True)


def test_bad_telemetry_is_logged_and_the_log_is_limited(house):
    for _ in range(500):
        house.say(b'{"light": NaN}', qos=0)
    house.say(12)
    house.expect(True)
    lines = house.daemon.grep("^warning .*lamp1")
    assert 1 <= len(lines) <= 100


@pytest.mark.parametrize("topic", FORGED, ids=range(len(FORGED)))
def test_a_forged_topic_decides_nothing(house, topic):
    house.peer.publish(topic, {"light": 12})
    house.say(12)
    house.expect(True)
    commanded = {message.topic for message in house.peer.messages if message.topic.endswith("/commands")}
    assert commanded == {"lamp1/commands"}


def test_a_decision_is_sent_once(house):
    for light in (12, 13, 14, 299, 310, 320):
        house.say(light)
    house.say(900)
    house.expect(False)
    assert house.commands() == [True, False]


def test_send_always_sends_every_time(make_house):
    house = make_house(rule=configs.RULE + "send = always\n")
    for light in (12, 13, 900, 901):
        house.say(light)
    house.peer.wait("lamp1/commands", count=4)
    assert house.commands() == [True, True, False, False]


def test_without_until_the_rule_is_a_threshold(make_house):
    rule = '[rule r]\nwhen = light < 300\nthen = {"led_on": true}\nelse = {"led_on": false}\n'
    house = make_house(rule=rule)
    for light in (299, 300, 299):
        house.say(light)
    house.peer.wait("lamp1/commands", count=3)
    assert house.commands() == [True, False, True]


def test_without_else_nothing_is_sent_at_the_end(make_house):
    house = make_house(rule='[rule r]\nwhen = light < 300\nthen = {"led_on": true}\n')
    for light in (12, 900, 12):
        house.say(light)
    house.peer.wait("lamp1/commands", count=2)
    assert house.commands() == [True, True]


def test_hold_is_the_shortest_time_between_changes(make_house):
    house = make_house(rule=configs.RULE + "hold = 1s\n")
    house.say(12)
    house.expect(True)
    house.say(900)
    house.expect(False)  # later, without another reading
    first, second = house.peer.received("lamp1/commands")
    assert 0.9 < second.received - first.received < 5


def test_an_unknown_reading_changes_nothing_and_is_logged_once(make_house):
    rule = '[rule r]\nwhen = light < 300 and door == 1\nthen = {"led_on": true}\nelse = {"led_on": false}\n'
    house = make_house(rule=rule)
    for _ in range(5):
        house.say(12)
    house.say(900)  # false, whatever the door is
    house.expect(False)
    assert house.commands() == [False]
    lines = house.daemon.grep(r"^(notice|warning|info) .*door")
    assert len(lines) == 1, lines
    house.peer.publish("lamp1/telemetry", {"door": 1, "light": 12})
    house.expect(True)


def test_a_stale_reading_is_unknown(make_house):
    rule = '[rule r]\nwhen = light < 300 and door == 1\nthen = {"led_on": true}\nelse = {"led_on": false}\n'
    house = make_house(rule=rule + "stale_after = 500ms\n")
    house.peer.publish("lamp1/telemetry", {"door": 1})
    house.say(12)
    house.expect(True)
    holds_for(house.daemon.alive, 0.8, "the door's reading becomes old")
    mark = house.peer.mark()
    house.say(12)
    house.peer.publish("lamp1/telemetry", {"door": 1})
    house.say(900)
    house.expect(False, since=mark)
    assert house.commands() == [True, False]
    assert house.daemon.grep(r"door"), house.daemon.log()


def test_a_device_that_falls_silent_is_logged_once(make_house):
    house = make_house(rule=configs.RULE + "stale_after = 500ms\n")
    house.say(12)
    house.expect(True)
    stale = r"^notice .*lamp1: light has no fresh reading"
    house.daemon.wait_log(stale)
    holds_for(lambda: len(house.daemon.grep(stale)) == 1, 1.5, "one line")
    assert house.commands() == [True]


def test_readings_of_several_messages_come_together(make_house):
    rule = '[rule r]\nwhen = heat - outside > 5\nthen = {"led_on": true}\nelse = {"led_on": false}\n'
    house = make_house(rule=rule)
    house.peer.publish("lamp1/telemetry", {"heat": 21.5})
    house.peer.publish("lamp1/telemetry", {"outside": 10})
    house.expect(True)
    house.peer.publish("lamp2/telemetry", {"heat": 3})
    house.peer.publish("lamp1/telemetry", {"heat": 12})
    house.expect(False)
    assert house.commands() == [True, False]
    assert not house.peer.received("lamp2/commands")


def test_a_rule_is_for_the_devices_that_it_names(make_house):
    house = make_house(rule=configs.RULE + "devices = lamp* porch\n")
    for device in ("door1", "lamp7", "porch", "porch2"):
        house.say(12, device)
    house.expect(True, "lamp7")
    house.expect(True, "porch")
    house.say(12, "lamp8")
    house.expect(True, "lamp8")
    assert not house.peer.received("door1/commands")
    assert not house.peer.received("porch2/commands")


def test_two_rules_decide_apart(make_house):
    fan = '[rule fan]\nwhen = heat > 30\nthen = {"fan": true}\nelse = {"fan": false}\n'
    house = make_house(rule=configs.RULE + fan)
    house.peer.publish("lamp1/telemetry", {"light": 12, "heat": 35})
    house.peer.wait("lamp1/commands", {"led_on": True})
    house.peer.wait("lamp1/commands", {"fan": True})


def test_by_default_the_server_hears_every_device(house):
    wait_until(
        lambda: "+/telemetry" in house.broker.subscriptions("server1"),
        lambda: house.broker.log(),
    )


def test_names_without_a_wildcard_subscribe_to_their_topics_only(make_house):
    house = make_house(more="[server]\ndevices = lamp1 porch\n")
    house.say(12, "lamp2")
    house.say(12)
    house.expect(True)
    filters = house.broker.subscriptions("server1")
    assert {"lamp1/telemetry", "porch/telemetry"} <= set(filters)
    assert not [each for each in filters if "+" in each or "#" in each]
    assert not house.peer.received("lamp2/commands")


def test_patterns_are_held_against_the_topic(make_house):
    house = make_house(more="[server]\ndevices = lamp*\n")
    house.say(12, "door1")
    house.say(12, "lamp2")
    house.expect(True, "lamp2")
    assert not house.peer.received("door1/commands")


def test_the_decision_is_sent_again_to_a_device_that_comes_back(house):
    house.say(12)
    house.expect(True)
    mark = house.peer.mark()
    house.peer.publish("lamp1/status", {"status": "online"}, retain=True)
    house.say(12)
    house.expect(True, since=mark)
    mark = house.peer.mark()
    house.peer.publish("lamp1/status", {"status": "offline"}, retain=True)
    house.peer.publish("lamp1/status", {"status": "online"}, retain=True)
    house.say(13)  # what is open is sent once more, then the decision as a command of its own
    wait_until(lambda: house.commands(since=mark) == [True, True], lambda: house.commands(since=mark))
    mark = house.peer.mark()
    house.peer.publish("lamp1/status", {"status": "online", "sent": 5}, retain=True)  # no news
    house.say(14)
    house.say(900)
    house.expect(False, since=mark)
    assert house.commands(since=mark) == [False]


BAD_STATUS = [b"", b"online", b'{"status": 1}', b"{}", b"[" * 10_000, b'{"status": "\xff"}', b'{"status": null}']


@pytest.mark.parametrize("payload", BAD_STATUS, ids=range(len(BAD_STATUS)))
def test_a_bad_status_does_no_harm(house, payload):
    house.say(12)
    house.expect(True)
    house.peer.publish("lamp1/status", payload)
    house.say(900)
    house.expect(False)
    assert house.commands() == [True, False]


def test_the_decision_is_sent_again_after_the_server_s_own_reconnect(house):
    house.say(12)
    house.expect(True)
    mark = house.peer.mark()
    house.broker.restart()
    house.peer.wait("server1/status", lambda status: status["status"] == "online", mark)
    house.say(12)
    house.expect(True, since=mark)


def test_retained_telemetry_of_the_past_is_no_news_or_a_reading_but_no_crash(broker, connect, start_daemon):
    peer = connect(broker, "#")
    peer.publish("lamp1/telemetry", {"light": 900}, retain=True)
    house = House(broker, start_daemon, connect)
    house.say(12)
    house.expect(True)


def test_topics_are_templates(make_house, broker):
    house = make_house(more="[topics]\ntelemetry = site/{group}/{id}/up\ncommands = site/{id}/down\n")
    house.peer.publish("site/cellar/lamp1/up", {"light": 12})
    house.peer.wait("site/lamp1/down", {"led_on": True})
    assert "site/+/+/up" in broker.subscriptions("server1")


def test_many_devices_are_kept_apart(make_house):
    house = make_house()
    for i in range(300):
        house.say(12 if i % 3 else 900, f"lamp{i}", qos=0)
    for i in (0, 1, 150, 298, 299):
        house.expect(bool(i % 3), f"lamp{i}")


def test_telemetry_and_commands_can_be_followed_at_info(house):
    house.say(12)
    house.expect(True)
    house.daemon.wait_log(r"^info +.*telemetry.*12")
    house.daemon.wait_log(r"^info +.*command.*led_on")
