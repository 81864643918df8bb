# SPDX-License-Identifier: LGPL-2.1-or-later
"""Actions: what a command can make a device do beside moving actuators, and what it cannot."""

import time

import pytest

from support import configs
from support.bus import Bus
from support.wait import holds_for, wait_until

REPLIES = "lamp1/replies"

UNITS = "".join(f"[action {name}]\nunit = {name}.service\n" for name in ("good", "bad", "long", "forbidden"))


class Device:
    def __init__(self, broker, make_daemon, connect, config="", env=None):
        self.peer = connect(broker, "#")
        self.config = configs.base(broker.port, "device") + config
        self.daemon = make_daemon("lamp1", self.config, env=env).start()
        self.peer.wait("lamp1/status", lambda status: status["status"] == "online")

    def act(self, action, id="a1", **more):
        self.peer.publish("lamp1/commands", {"$id": id, "$action": action, **more})

    def reply(self, id="a1", count=1):
        return self.peer.wait(REPLIES, lambda reply: reply["$id"] == id, count=count)


@pytest.fixture
def bus(tmp_path):
    bus = Bus(tmp_path / "bus")
    yield bus
    bus.kill()


@pytest.fixture
def make_device(broker, make_daemon, connect):
    return lambda *args, **kwargs: Device(broker, make_daemon, connect, *args, **kwargs)


def test_sample_answers_with_fresh_readings_and_publishes_them(make_device, value):
    light, door = value("light", 250), value("door", 1)
    sensors = configs.sensor("light", light, "1h") + configs.sensor("door", door, "1h")
    device = make_device(sensors)
    device.peer.wait("lamp1/telemetry", {"light": 250, "door": 1})
    light.write(17)
    mark = device.peer.mark()
    device.act("sample")
    reply = device.reply()
    assert reply["status"] == "done" and reply["readings"] == {"light": 17, "door": 1}
    device.peer.wait("lamp1/telemetry", {"light": 17, "door": 1}, mark)


def test_sample_publishes_only_the_sensors_that_it_names(make_device, value):
    light, door = value("light", 250), value("door", 1)
    device = make_device(configs.sensor("light", light, "1h") + configs.sensor("door", door, "1h"))
    device.peer.wait("lamp1/telemetry", {"light": 250, "door": 1})
    door.write(0)
    mark = device.peer.mark()
    device.act("sample", sensors=["door"])
    assert device.reply()["readings"] == {"door": 0}
    device.act("sample", "a2")
    device.reply("a2")
    device.peer.wait("lamp1/telemetry", {"light": 250, "door": 0}, mark)
    assert device.peer.objects("lamp1/telemetry", mark) == [{"door": 0}, {"light": 250, "door": 0}]


def test_sample_says_which_sensor_has_no_reading(make_device, value, tmp_path):
    light = value("light", 250)
    sensors = configs.sensor("light", light, "1h") + configs.sensor("lost", tmp_path / "none", "1h")
    device = make_device(sensors)
    device.act("sample")
    reply = device.reply()
    assert reply["status"] == "failed" and "'lost'" in reply["reason"]
    assert reply["readings"] == {"light": 250, "lost": None}


def test_identify_shows_in_the_log(make_device):
    device = make_device()
    device.act("identify")
    assert device.reply()["status"] == "done"
    device.daemon.wait_log("^notice +identify: here I am, device lamp1 of group default")


def test_reload_is_answered_when_it_is_over(make_device, value):
    device = make_device()
    device.daemon.configure(device.config + configs.actuator("led_on", value("led")))
    device.act("reload")
    assert device.reply()["status"] == "done"
    device.peer.publish("lamp1/commands", {"$id": "a2", "led_on": True})
    assert device.reply("a2")["status"] == "done"
    device.daemon.configure("[nonsense]\n")
    device.act("reload", "a3")
    reply = device.reply("a3")
    assert reply["status"] == "failed" and "nonsense" in reply["reason"]
    device.daemon.configure(device.config)


def test_a_unit_is_started_and_answered_with_its_end(make_device, bus):
    bus.start()
    device = make_device(UNITS, env=bus.env)
    for name in ("good", "bad", "forbidden"):
        device.act(name, name)
    assert device.reply("good")["status"] == "done"
    bad = device.reply("bad")
    assert bad["status"] == "failed" and "'failed'" in bad["reason"]
    forbidden = device.reply("forbidden")
    assert forbidden["status"] == "failed" and "polkit" in forbidden["reason"]
    device.act("good", "good")  # once is enough
    assert device.reply("good", 2) == device.reply("good")
    assert sorted(bus.asked()) == ["start bad.service replace", "start forbidden.service replace", "start good.service replace"]


def test_only_what_the_configuration_names_can_be_started(make_device, bus):
    bus.start()
    device = make_device(UNITS, env=bus.env)
    for i, name in enumerate(["reboot", "ssh", "ssh.service", "good.service", "../good"]):
        device.act(name, f"a{i}")
        assert device.reply(f"a{i}")["status"] == "rejected"
    assert not bus.asked()


def test_a_bus_that_dies_is_a_failure_and_is_found_again(make_device, bus):
    device = make_device(UNITS, env=bus.env)
    device.act("good", "a1")  # there is none yet
    assert device.reply("a1")["status"] == "failed" and "bus" in device.reply("a1")["reason"]
    bus.start()
    device.act("long", "a2")
    wait_until(bus.asked, "the call")
    bus.kill()
    reply = device.reply("a2")
    assert reply["status"] == "failed" and "bus" in reply["reason"]
    bus.start()
    device.act("good", "a3")
    assert device.reply("a3")["status"] == "done"


def test_a_bus_that_hangs_holds_nothing_up(make_device, bus, value):
    bus.start()
    led = value("led")
    device = make_device(UNITS + configs.actuator("led_on", led), env=bus.env)
    bus.daemon.signal(19)  # SIGSTOP
    device.act("good")
    begin = time.monotonic()
    device.peer.publish("lamp1/commands", {"led_on": True})
    led.wait("1\n")
    assert time.monotonic() - begin < 2
    bus.daemon.signal(18)
    assert device.reply()["status"] == "done"


def test_a_reboot_comes_after_its_reply_and_only_once(make_device, bus):
    bus.start()
    device = make_device("[action reboot]\n", env=bus.env)
    device.act("reboot")
    assert device.reply()["status"] == "done"
    assert not bus.asked()
    wait_until(lambda: bus.asked() == ["reboot False"], "the reboot")
    device.daemon.kill()
    mark = device.peer.mark()
    device.daemon.start()
    device.peer.wait("lamp1/status", lambda status: status["status"] == "online", mark)
    device.act("reboot")
    assert device.reply(count=2)["status"] == "done"
    holds_for(lambda: bus.asked() == ["reboot False"], 4, "it was done before")


def test_a_reboot_that_is_not_granted_fails(make_device, tmp_path):
    bus = Bus(tmp_path / "bus", "challenge").start()
    try:
        device = make_device("[action reboot]\n", env=bus.env)
        device.act("reboot")
        reply = device.reply()
        assert reply["status"] == "failed" and "polkit" in reply["reason"]
        holds_for(lambda: not bus.asked(), 4, "nothing is rebooted")
    finally:
        bus.kill()
