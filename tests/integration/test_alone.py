# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device on its own: what its actuators begin with, end with and fall back to, and who decides."""

import pytest

from support import configs
from support.wait import holds_for, wait_until

SAFE = """
type = bool
initial = yes
safe = no
disconnect_after = 1500ms
"""

OFFLINE_RULE = """
[rule frost]
where = offline
when = light < 300
then = {"heat": true}
else = {"heat": false}
"""


def device(broker, led, more="", name="led_on"):
    return configs.base(broker.port, "device") + configs.actuator(name, led, SAFE + more)


def test_an_actuator_of_which_nothing_is_known_begins_with_initial(broker, start_daemon, connect, value):
    led = value("led")
    peer = connect(broker, "#")
    start_daemon("lamp1", device(broker, led))
    peer.wait("lamp1/state", {"led_on": True})
    assert led.read() == "1\n"


@pytest.mark.parametrize("on_exit,text,state", [("safe", "0\n", False), ("keep", "1\n", True)])
def test_a_clean_end_leaves_what_on_exit_says(broker, start_daemon, connect, value, on_exit, text, state):
    led = value("led")
    peer = connect(broker, "#")
    daemon = start_daemon("lamp1", device(broker, led, f"on_exit = {on_exit}"))
    peer.wait("lamp1/state", {"led_on": True})
    daemon.stop()
    assert led.read() == text
    peer.wait("lamp1/status", lambda status: status["status"] == "offline")
    assert peer.objects("lamp1/state")[-1] == {"led_on": state}, "what is retained is true"


def test_a_device_that_is_cut_off_is_set_to_safe_in_its_time(start_broker, start_daemon, connect, value):
    broker = start_broker()
    led = value("led")
    daemon = start_daemon("lamp1", device(broker, led, "on_disconnect = safe"))
    connect(broker, "#").wait("lamp1/state", {"led_on": True})
    for _ in range(2):  # in each outage
        holds_for(lambda: led.read() == "1\n", 2, "connected, it stays")
        mark = daemon.mark()
        broker.kill()
        led.wait("0\n")
        daemon.wait_log(r"^notice +actuator led_on: the device is cut off from the broker; .* false", mark)
        broker.start()
        peer = connect(broker, "#")
        peer.wait("lamp1/state", {"led_on": False})
        peer.publish("lamp1/commands", {"led_on": True})
        led.wait("1\n")


def test_a_device_that_never_was_connected_is_cut_off_too(make_daemon, value, start_broker):
    broker = start_broker()
    broker.kill()
    led = value("led", 1)
    make_daemon("lamp1", device(broker, led, "on_disconnect = safe")).start()
    led.wait("0\n")


def test_an_offline_rule_decides_while_the_device_is_cut_off(start_broker, start_daemon, connect, value):
    broker = start_broker()
    heat, light = value("heat"), value("light", 250)
    config = device(broker, heat, "on_disconnect = safe", "heat") + configs.sensor("light", light) + OFFLINE_RULE
    daemon = start_daemon("lamp1", config)
    peer = connect(broker, "#")
    peer.wait("lamp1/telemetry")
    peer.publish("lamp1/commands", {"heat": False})
    heat.wait("0\n")
    holds_for(lambda: heat.read() == "0\n", 1, "the server's word counts")
    broker.kill()
    heat.wait("1\n")
    light.write(400)
    heat.wait("0\n")
    light.write(200)
    heat.wait("1\n")
    assert not daemon.grep("it is set to"), "the rule goes before on_disconnect"
    broker.start()
    peer = connect(broker, "#")
    peer.wait("lamp1/state")
    peer.publish("lamp1/commands", {"heat": False})
    heat.wait("0\n")
    holds_for(lambda: heat.read() == "0\n", 1, "the server's word counts again")


def test_a_rule_of_the_device_decides_always(start_broker, start_daemon, connect, value):
    broker = start_broker()
    heat, light = value("heat"), value("light", 250)
    rule = OFFLINE_RULE.replace("offline", "device")
    start_daemon("lamp1", device(broker, heat, "", "heat") + configs.sensor("light", light) + rule)
    connect(broker, "#").wait("lamp1/telemetry")
    heat.wait("1\n")
    light.write(400)
    heat.wait("0\n")
    broker.kill()
    light.write(200)
    heat.wait("1\n")
    wait_until(lambda: heat.read() == "1\n", "it stays")
