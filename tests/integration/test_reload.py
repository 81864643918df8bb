# SPDX-License-Identifier: LGPL-2.1-or-later
"""SIGHUP: a bad file changes nothing and is reported; a good one restarts only what changed."""

import os
import resource

import pytest

from support import configs
from support.wait import holds_for, wait_until


class House:
    """A nightlight at work in the combined role, its lamp on."""

    def __init__(self, broker, start_daemon, connect, value):
        self.broker = broker
        self.light, self.led = value("light", 250), value("led")
        self.peer = connect(broker, "#")
        self.daemon = start_daemon("lamp1", self.config())
        self.led.wait("1\n")
        self.peer.wait("lamp1/state", {"led_on": True})

    def config(self, interval="100ms", more="", rule=configs.RULE, **keywords):
        return (
            configs.base(self.broker.port, **keywords)
            + configs.sensor("light", self.light, interval)
            + configs.actuator("led_on", self.led)
            + rule
            + more
        )

    def connections(self):
        return len(self.broker.grep("New client connected .* as lamp1"))

    def wait_subscribed(self, client_id, count):
        """To so many filters as that, ever."""
        wait_until(lambda: len(self.broker.subscriptions(client_id)) >= count, "subscriptions")

    def reload(self, config):
        mark = self.daemon.reload(config)
        self.daemon.wait_log(r"(?i)^\w+ +.*reload", mark)
        return mark


@pytest.fixture
def house(broker, start_daemon, connect, value):
    return House(broker, start_daemon, connect, value)


def test_a_bad_file_changes_nothing(house):
    before, led = house.connections(), house.led.identity()
    mark = house.daemon.reload(house.config(interval="300ms", more="[broker]\nhots = x\n[sensor z]\n"))
    (first, *_) = house.daemon.wait_log(r"^error .*nightlightd\.conf:\d+: ", mark)
    assert "nightlightd.conf:" in first
    house.daemon.wait_log(r"hots", mark)
    count = house.peer.mark()
    house.peer.wait("lamp1/telemetry", since=count, count=10, timeout=2)  # still at 100 ms
    assert house.connections() == before
    assert house.led.identity() == led
    house.light.write(900)
    house.led.wait("0\n")


def test_the_same_file_changes_nothing(house):
    before, led = house.connections(), house.led.identity()
    house.reload(house.config())
    mark = house.peer.mark()
    house.peer.wait("lamp1/telemetry", since=mark, count=5)
    assert house.connections() == before
    assert house.led.identity() == led


def test_a_changed_sensor_restarts_only_the_sensor(house):
    before, led = house.connections(), house.led.identity()
    house.reload(house.config(interval="20ms"))
    mark = house.peer.mark()
    house.peer.wait("lamp1/telemetry", since=mark, count=50, timeout=3)
    assert house.connections() == before
    assert house.led.identity() == led
    assert not [m for m in house.peer.received("lamp1/status", mark) if b"offline" in m.payload]


def test_an_interval_can_become_long(house):
    house.reload(house.config(interval="1h"))
    house.peer.wait("lamp1/telemetry", timeout=1)
    # One that was on its way, and the one of the new timer's beginning, may still come.
    mark = house.peer.mark()
    holds_for(lambda: len(house.peer.received("lamp1/telemetry", mark)) <= 2, 1, "too many")


def test_a_sensor_comes_and_goes(house, value):
    heat = value("heat", 21.5)
    house.reload(house.config(more=configs.sensor("heat", heat)))
    house.peer.wait("lamp1/telemetry", {"light": 250, "heat": 21.5})
    house.reload(house.config())
    house.peer.wait("lamp1/telemetry", {"light": 250}, house.peer.mark(), count=3)


def test_an_actuator_comes_and_goes(house, value):
    fan = value("fan")
    led = house.led.identity()
    house.reload(house.config(more=configs.actuator("fan", fan)))
    house.peer.wait("lamp1/state", lambda state: set(state) == {"led_on", "fan"})
    house.peer.publish("lamp1/commands", {"fan": True})
    fan.wait("1\n")
    house.peer.wait("lamp1/state", {"led_on": True, "fan": True})
    mark = house.peer.mark()
    house.reload(house.config())
    house.peer.wait("lamp1/state", {"led_on": True}, mark)
    assert house.led.identity() == led


def test_a_changed_actuator_is_set_to_what_it_was_to_be(house, value):
    other = value("other")
    led = configs.actuator("led_on", house.led)
    mark = house.peer.mark()
    house.reload(house.config().replace(led, configs.actuator("led_on", other)))
    other.wait("1\n")
    house.peer.wait("lamp1/state", {"led_on": True}, mark)


def test_devices_that_are_not_ours_any_more_are_left_alone(house):
    rule = '[rule r]\nwhen = age(x) > 1\nthen = {"led_on": true}\n'
    house.reload(house.config(rule=rule))
    house.peer.publish("lamp7/telemetry", {"x": 1})
    house.daemon.wait_log("telemetry from lamp7")
    before = len(house.broker.subscriptions("lamp1-server"))
    house.reload(house.config(rule=rule, more="[server]\ndevices = lamp1\n"))
    house.wait_subscribed("lamp1-server", before + 3)  # status, replies, telemetry
    house.peer.publish("lamp1/telemetry", {"x": 1})
    mark = house.peer.mark()
    house.peer.wait("lamp1/commands", {"led_on": True}, mark)
    assert not house.peer.received("lamp7/commands")


def test_a_changed_rule_decides_by_the_new_threshold(house):
    before = house.connections()
    house.reload(house.config(rule=configs.RULE.replace("300", "100").replace("320", "120")))
    house.led.wait("0\n")
    assert house.connections() == before


def test_a_changed_broker_is_connected_to(house, start_broker, connect):
    other = start_broker()
    peer = connect(other, "#")
    house.daemon.reload(house.config().replace(f"port = {house.broker.port}", f"port = {other.port}"))
    peer.wait("lamp1/telemetry", {"light": 250})
    peer.wait("lamp1/status", lambda status: status["status"] == "online")
    peer.wait("lamp1/state", {"led_on": True})
    house.light.write(900)
    house.led.wait("0\n")


def test_a_changed_connection_says_goodbye_first(house):
    mark = house.broker.mark()
    house.reload(house.config(broker="keepalive = 77s"))
    wait_until(lambda: house.broker.grep("as lamp1 .*k77", mark), lambda: house.broker.log(mark)[-3000:])
    wait_until(lambda: house.broker.grep("as lamp1-server .*k77", mark), lambda: house.broker.log(mark)[-3000:])
    for client in ("lamp1", "lamp1-server"):
        assert house.broker.grep(f"Received DISCONNECT from {client}$", mark)
    wait_until(lambda: current(house, "combined"), lambda: house.peer.objects("lamp1/status")[-5:])


def test_a_changed_id_moves_the_topics(house):
    house.daemon.reload(house.config(name="lamp2"))
    house.peer.wait("lamp2/telemetry", {"light": 250})
    house.peer.wait("lamp2/status", lambda status: status["status"] == "online")
    house.peer.wait("lamp1/status", lambda status: status["status"] == "offline")


def test_a_role_comes_and_goes(house):
    """The status, one topic for both roles, is of the new role in the end."""
    for role in ("device", "combined", "server", "combined", "server", "device", "server"):
        house.reload(house.config(role=role))
        wait_until(lambda role=role: current(house, role), lambda: house.peer.objects("lamp1/status")[-5:])
        mark = house.peer.mark()
        if role == "server":
            house.peer.publish("lamp9/telemetry", {"light": 12})
            house.peer.publish("lamp9/telemetry", {"light": 900})
            house.peer.wait("lamp9/commands", {"led_on": False}, mark)
        else:
            house.peer.wait("lamp1/telemetry", {"light": 250}, mark)
    holds_for(lambda: current(house, "server"), 0.5, lambda: house.peer.objects("lamp1/status")[-5:])


def current(house, role):
    last = house.peer.objects("lamp1/status")[-1]
    return last["status"] == "online" and last["role"] == role


def test_changed_subscriptions_of_the_server_take_effect(house):
    house.reload(house.config(more="[server]\ndevices = lamp1 lamp3\n"))
    house.peer.publish("lamp2/telemetry", {"light": 12})
    house.light.write(900)
    house.led.wait("0\n")
    assert not house.peer.received("lamp2/commands")


def test_sigterm_right_after_sighup_is_a_clean_end(house):
    house.daemon.reload(house.config(name="lamp2"))
    house.daemon.stop(timeout=3)


def test_many_reloads_in_a_row_end_with_the_last(house):
    for i in range(20):
        house.daemon.reload(house.config(interval=f"{20 + i}ms"))
    house.reload(house.config(interval="50ms"))
    mark = house.peer.mark()
    house.peer.wait("lamp1/telemetry", since=mark, count=20, timeout=5)
    descriptors = len(list_fds(house.daemon))
    house.reload(house.config(interval="60ms"))
    house.peer.wait("lamp1/telemetry", since=house.peer.mark(), count=3)
    wait_until(lambda: len(list_fds(house.daemon)) <= descriptors, "no descriptor to leak")


def list_fds(daemon):
    return os.listdir(f"/proc/{daemon.pid}/fd")


def test_a_reload_without_descriptors_changes_nothing(house, value):
    """More sensors than descriptors, and a stream less: the daemon aborted in that stream."""
    door, before = value("door", 1), house.connections()
    alarms = configs.sensor("door", door, more="stream = alarms")
    house.reload(house.config(more=alarms + "[stream alarms]\ntopic = {id}/alarms\n"))
    house.peer.wait("lamp1/alarms", {"door": 1})
    wait_until(lambda: house.connections() == before + 1, "the server's connection with its new filter")
    open_now = len(os.listdir(f"/proc/{house.daemon.pid}/fd"))
    resource.prlimit(house.daemon.pid, resource.RLIMIT_NOFILE, (open_now + 10, open_now + 10))
    more = "".join(configs.sensor(f"s{i}", house.light) for i in range(60))
    mark = house.daemon.reload(house.config(more=more))
    (line,) = house.daemon.wait_log(r"^error .*the old one stays in force", mark)
    assert "sensor s" in line and "Too many open files" in line, line
    mark = house.peer.mark()
    house.peer.wait("lamp1/alarms", {"door": 1}, since=mark, count=5)
    house.peer.wait("lamp1/telemetry", {"light": 250}, since=mark, count=5)
    assert house.connections() == before + 1
    house.light.write(900)
    house.led.wait("0\n")
    assert house.daemon.grep(r"not reloaded|stays in force") == [line]
