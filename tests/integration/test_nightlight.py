# SPDX-License-Identifier: LGPL-2.1-or-later
"""The nightlight, end to end: dark, lamp on; bright, lamp off; whatever is restarted meanwhile."""

import pytest

from support import configs
from support.peer import plain
from support.wait import holds_for, wait_until


def telemetry_is(peer, light, since=0):
    return peer.wait("lamp1/telemetry", {"light": light}, since)


def test_combined_role_switches_the_lamp(broker, start_daemon, connect, value):
    light, led = value("light", 250), value("led")
    peer = connect(broker, "#")
    start_daemon("lamp1", configs.nightlight(broker.port, light, led))

    telemetry_is(peer, 250)
    peer.wait("lamp1/commands", {"led_on": True})
    led.wait("1\n")
    peer.wait("lamp1/state", {"led_on": True})

    light.write(800)
    telemetry_is(peer, 800)
    peer.wait("lamp1/commands", {"led_on": False})
    led.wait("0\n")
    peer.wait("lamp1/state", {"led_on": False})


def test_between_when_and_until_nothing_changes(broker, start_daemon, connect, value):
    light, led = value("light", 250), value("led")
    peer = connect(broker, "#")
    start_daemon("lamp1", configs.nightlight(broker.port, light, led))
    led.wait("1\n")

    for reading, lamp in ((300, "1\n"), (320, "1\n"), (321, "0\n"), (310, "0\n"), (300, "0\n"), (299, "1\n")):
        light.write(reading)
        telemetry_is(peer, reading, peer.mark())
        telemetry_is(peer, reading, peer.mark())  # the second one: the first has been decided on
        led.wait(lamp)
    commands = [plain(command) for command in peer.objects("lamp1/commands")]
    assert commands == [{"led_on": True}, {"led_on": False}, {"led_on": True}]


def test_telemetry_comes_at_its_interval_without_drift(broker, start_daemon, connect, value):
    light, led = value("light", 250), value("led")
    peer = connect(broker, "lamp1/telemetry")
    start_daemon("lamp1", configs.nightlight(broker.port, light, led))
    peer.wait("lamp1/telemetry", count=31)
    times = [message.received for message in peer.received("lamp1/telemetry")]
    assert 2.8 < times[30] - times[0] < 3.4


@pytest.fixture
def pair(broker, start_daemon, connect, value):
    """A device and a server, two processes with two state directories, and their conversation."""

    class Pair:
        pass

    pair = Pair()
    pair.light, pair.led = value("light", 250), value("led")
    pair.peer = connect(broker, "#")
    pair.server = start_daemon("server1", configs.server(broker.port))
    pair.device = start_daemon("lamp1", configs.device(broker.port, pair.light, pair.led))
    assert pair.server.state_directory != pair.device.state_directory
    pair.led.wait("1\n")
    return pair


def converse(pair):
    for reading, lamp in ((900, "0\n"), (20, "1\n")):
        pair.light.write(reading)
        pair.led.wait(lamp)


def test_device_and_server_converse_as_two_processes(pair):
    converse(pair)


def test_conversation_survives_restarts_of_the_broker(pair, broker):
    for _ in range(2):
        broker.restart()
        converse(pair)


def test_a_change_during_the_outage_takes_effect_afterwards(pair, broker):
    broker.stop()
    pair.device.wait_log(r"^(warning|notice) .*(connect|broker)")
    pair.light.write(900)
    holds_for(lambda: pair.led.read() == "1\n", 0.3, "no server, no change")
    broker.start()
    pair.led.wait("0\n")


def test_conversation_survives_kill_9_of_either_side(pair):
    for victim in (pair.device, pair.server, pair.device):
        victim.kill()
        victim.start()
        converse(pair)


def test_a_killed_device_gets_the_server_s_decision_again(pair):
    """The lamp was switched off behind its back while the device was dead; nothing else changed."""
    pair.device.kill()
    pair.led.write(0)
    mark = pair.peer.mark()
    pair.device.start()
    pair.peer.wait("lamp1/commands", {"led_on": True}, mark)
    pair.led.wait("1\n")


def test_a_restarted_server_decides_anew(pair):
    pair.server.stop()
    pair.light.write(900)
    holds_for(lambda: pair.led.read() == "1\n", 0.3, "no server, no change")
    pair.server.start()
    pair.led.wait("0\n")


def test_two_devices_are_decided_on_apart(broker, start_daemon, connect, value):
    start_daemon("server1", configs.server(broker.port))
    lamps = []
    for name, light in (("lamp1", 10), ("lamp2", 900)):
        lamps.append((value(f"{name}-light", light), value(f"{name}-led", 7)))
        start_daemon(name, configs.device(broker.port, *lamps[-1], name=name))
    lamps[0][1].wait("1\n")
    lamps[1][1].wait("0\n")
    lamps[0][0].write(900)
    lamps[0][1].wait("0\n")
    lamps[1][0].write(10)
    lamps[1][1].wait("1\n")


def test_last_wins_when_the_light_flickers(broker, start_daemon, value):
    light, led = value("light", 250), value("led")
    start_daemon("lamp1", configs.nightlight(broker.port, light, led))
    led.wait("1\n")
    for reading in (900, 10, 900, 10, 900):
        light.write(reading)
    led.wait("0\n")
    wait_until(lambda: led.read() == "0\n", "the last")
