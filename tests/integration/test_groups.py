# SPDX-License-Identifier: LGPL-2.1-or-later
"""Rules with scope = group: one decision of many readings, once on the group's topic."""

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes

from support import configs
from support.peer import new_client, plain
from support.wait import holds_for

EXAMPLE = Path(__file__).parents[2] / "conf/examples/stadium.conf"

MEDIAN = """
[rule floodlight]
scope = group
when = median(light) < 300
until = median(light) > 320
min_devices = 3
stale_after = 2s
then = {"led_on": true}
else = {"led_on": false}
"""

GROUP_TOPIC = "[topics]\ntelemetry = {group}/{id}/telemetry\n"


class Stadium:
    def __init__(self, broker, start_daemon, connect, rule=MEDIAN, more=GROUP_TOPIC):
        self.peer = connect(broker, "#")
        self.daemon = start_daemon("server1", configs.server(broker.port, rule=rule) + more)
        broker.wait_log(r"server1 1 .*telemetry")  # it has subscribed

    def say(self, device, light, group="north/", **more):
        self.peer.publish(f"{group}{device}/telemetry", {"light": light, **more})

    def commands(self, topic="groups/north/commands"):
        return [command["led_on"] for command in self.peer.objects(topic)]

    def expect(self, *commands, topic="groups/north/commands"):
        self.peer.wait(topic, {"led_on": commands[-1]}, count=commands.count(commands[-1]))
        assert self.commands(topic) == list(commands)


@pytest.fixture
def make_stadium(broker, start_daemon, connect):
    return lambda **keywords: Stadium(broker, start_daemon, connect, **keywords)


def test_a_bird_on_one_sensor_changes_nothing(make_stadium):
    stadium = make_stadium()
    for lamp in ("lamp1", "lamp2", "lamp3"):
        stadium.say(lamp, 500)
    stadium.expect(False)
    stadium.say("lamp1", 0)  # the bird
    stadium.say("south1", 0, "south/")
    stadium.say("lamp2", 500)
    holds_for(lambda: stadium.commands() == [False], 0.3, "the lamps stay off")
    stadium.say("lamp2", 250)
    stadium.expect(False, True)
    # Once for all: nobody has been told by itself.
    assert not stadium.peer.received("lamp1/commands")
    assert not stadium.peer.received("groups/south/commands")


def test_a_silent_lamp_drops_out_and_that_is_logged_once(make_stadium):
    stadium = make_stadium()
    for lamp, light in (("lamp1", 500), ("lamp2", 500), ("lamp3", 100), ("lamp4", 100)):
        stadium.say(lamp, light)
    stadium.expect(False)
    deadline = time.monotonic() + 10
    while stadium.commands() == [False] and time.monotonic() < deadline:
        for lamp in ("lamp1", "lamp3", "lamp4"):  # lamp2 is silent: the median falls
            stadium.say(lamp, 500 if lamp == "lamp1" else 100)
        time.sleep(0.1)
    stadium.expect(False, True)
    assert stadium.daemon.log().count("lamp2 is silent") == 1


def test_an_offline_lamp_drops_out_at_once(make_stadium):
    stadium = make_stadium(rule=MEDIAN.replace("2s", "1h"))
    for lamp, light in (("lamp1", 500), ("lamp2", 500), ("lamp3", 100), ("lamp4", 100)):
        stadium.say(lamp, light)
    stadium.expect(False)
    stadium.peer.publish("lamp1/status", {"status": "offline"})
    stadium.expect(False, True)
    assert stadium.daemon.log().count("lamp1 is offline: it does not count") == 1


def test_groups_by_configuration_and_by_default(make_stadium):
    more = "[group north]\ndevices = stadium-north-*\n"
    rule = MEDIAN.replace("min_devices = 3\n", "")
    stadium = make_stadium(rule=rule, more=more)
    stadium.say("stadium-north-1", 100, "")
    stadium.expect(True)
    stadium.say("lamp7", 900, "")
    stadium.expect(False, topic="groups/default/commands")


def test_a_server_decides_only_for_its_groups(make_stadium):
    rule = MEDIAN.replace("min_devices = 3\n", "")
    stadium = make_stadium(rule=rule, more=GROUP_TOPIC + "[server]\ngroups = south west*\n")
    stadium.say("lamp1", 100)
    stadium.say("lamp2", 100, "south/")
    stadium.expect(True, topic="groups/south/commands")
    assert not stadium.commands()


def late(seconds):
    moment = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_an_older_reading_does_not_replace_a_newer_one(make_stadium):
    stadium = make_stadium(rule=configs.RULE, more="")
    stadium.say("lamp1", 500, "")
    stadium.expect(False, topic="lamp1/commands")
    stadium.say("lamp1", 100, "", time=late(10))
    stadium.say("lamp2", 100, "", time=late(3600))  # the first one, and late: no news
    stadium.say("lamp1", 510, "")
    stadium.say("lamp3", 100, "")
    stadium.expect(True, topic="lamp3/commands")
    assert stadium.commands("lamp1/commands") == [False]
    assert stadium.commands("lamp2/commands") == []


def test_the_time_may_come_as_a_user_property(broker, make_stadium):
    rule = configs.RULE.replace("until = light > 320", "stale_after = 1min")
    stadium = make_stadium(rule=rule, more="")
    client = new_client(protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        for device, seconds in (("lamp1", 120), ("lamp2", 50)):
            properties = mqtt.Properties(PacketTypes.PUBLISH)
            properties.UserProperty = ("time", late(seconds))
            info = client.publish(f"{device}/telemetry", '{"light": 100}', 1, properties=properties)
            info.wait_for_publish(5)
    finally:
        client.disconnect()
        client.loop_stop()
    stadium.expect(True, topic="lamp2/commands")
    assert stadium.commands("lamp1/commands") == []


def test_the_shipped_stadium(broker, make_daemon, connect):
    """A server and four lamps of the example; one sensor is dark in bright daylight."""
    peer = connect(broker, "#")

    def configure(daemon, role, light):
        conf = f"[broker]\nport = {broker.port}\n[daemon]\nid = {daemon.name}\nrole = {role}\n"
        conf += f"[sensor light]\nwave = constant\nmin = {light}\ninterval = 200ms\n"
        directory = daemon.directory / "conf.d"
        directory.mkdir(exist_ok=True)
        (directory / "test.conf").write_text(conf)

    def start(name, role, light=0):
        daemon = make_daemon(name, EXAMPLE.read_text())
        configure(daemon, role, light)
        return daemon.start()

    start("server1", "server")
    broker.wait_log(r"server1 1 .*telemetry")
    lamps = {name: start(name, "device", light) for name, light in
             {"lamp1": 900, "lamp2": 900, "lamp3": 0, "lamp4": 900}.items()}
    peer.wait("groups/stadium/commands", {"led_on": False})
    for name in lamps:
        peer.wait(f"{name}/state", {"led_on": False})
    assert [plain(command) for command in peer.objects("groups/stadium/commands")] == [{"led_on": False}]
    lamps["lamp1"].kill()  # its last will says so
    configure(lamps["lamp2"], "device", 0)
    lamps["lamp2"].reload()
    peer.wait("groups/stadium/commands", {"led_on": True}, timeout=20)
    for name in ("lamp2", "lamp3", "lamp4"):
        peer.wait(f"{name}/state", {"led_on": True})


WINDOW = """
[rule worn]
when = max(vibration, 1h) > 5
then = {"alarm": true}
else = {"alarm": false}
"""


def test_what_a_rule_has_seen_over_time_outlives_a_restart(broker, start_daemon, connect):
    peer = connect(broker, "#")
    server = start_daemon("server1", configs.server(broker.port, rule=WINDOW))
    broker.wait_log(r"server1 1 .*telemetry")
    peer.publish("press/telemetry", {"vibration": 9})
    peer.wait("press/commands", {"alarm": True})
    server.stop()
    mark = peer.mark()
    server.start()
    broker.wait_log(r"server1 1 .*telemetry", count=2)
    peer.publish("press/telemetry", {"vibration": 1})
    peer.wait("press/commands", {"alarm": True}, since=mark)
    assert {"alarm": False} not in peer.objects("press/commands", mark)
