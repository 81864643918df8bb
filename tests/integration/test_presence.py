# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the others know of a device: its retained status, its last will, its retained state."""

import re

import pytest

from support import configs
from support.wait import wait_until

STATUS, STATE = "lamp1/status", "lamp1/state"


def is_online(status):
    return status["status"] == "online"


def is_offline(status):
    return status["status"] == "offline"


@pytest.fixture
def lamp(broker, start_daemon, value):
    lamp = start_daemon("lamp1", configs.device(broker.port, value("light", 250), value("led")))
    wait_until(lambda: broker.grep("Sending SUBACK to lamp1"), "a subscription")
    return lamp


def test_the_status_says_what_it_is(broker, lamp, connect):
    status = connect(broker, STATUS).wait(STATUS, is_online)
    assert status["role"] == "device"
    assert re.match(r"\d+\.\d+", status["version"])
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z$", status["since"])
    for counter in ("sent", "queued", "dropped", "rejected"):
        assert isinstance(status[counter], int), status


@pytest.mark.parametrize("role", ["server", "combined"])
def test_each_role_has_a_status(broker, start_daemon, connect, role):
    start_daemon("lamp1", configs.base(broker.port, role) + configs.RULE)
    assert connect(broker, "#").wait(STATUS, is_online)["role"] == role


def test_the_will_speaks_for_one_that_was_killed(broker, lamp, connect):
    peer = connect(broker, STATUS)
    peer.wait(STATUS, is_online)
    lamp.kill()
    peer.wait(STATUS, is_offline)
    connect(broker, STATUS).wait(STATUS, is_offline)  # retained


def test_a_clean_stop_says_so(broker, lamp, connect):
    peer = connect(broker, STATUS)
    peer.wait(STATUS, is_online)
    mark = peer.mark()
    lamp.stop()
    peer.wait(STATUS, is_offline, mark)
    assert broker.grep("Received DISCONNECT from lamp1")
    assert not is_online(peer.objects(STATUS)[-1])


def test_combined_stops_with_both_of_its_clients(broker, start_daemon, connect, value):
    daemon = start_daemon("lamp1", configs.nightlight(broker.port, value("light", 250), value("led")))
    peer = connect(broker, "#")
    peer.wait("lamp1/commands")
    assert broker.connects("lamp1") and broker.connects("lamp1-server")
    daemon.stop()
    peer.wait(STATUS, is_offline)
    for client in ("lamp1", "lamp1-server"):
        assert broker.grep(f"Received DISCONNECT from {client}$"), client


def test_state_and_status_are_retained(broker, lamp, connect):
    connect(broker, STATE).wait(STATE, {"led_on": None})
    peer = connect(broker, "#")
    peer.publish("lamp1/commands", {"led_on": True})
    peer.wait(STATE, {"led_on": True})
    late = connect(broker, "lamp1/#")
    late.wait(STATE, {"led_on": True})
    late.wait(STATUS, is_online)
    assert all(message.retain for message in late.received(STATE) + late.received(STATUS)[:1])


def test_the_state_after_a_restart_is_what_the_actuator_is(broker, lamp, connect, value):
    peer = connect(broker, "#")
    peer.publish("lamp1/commands", {"led_on": True})
    peer.wait(STATE, {"led_on": True})
    identity = value("led").identity()
    lamp.stop()
    mark = peer.mark()
    lamp.start()
    assert peer.wait(STATE, since=mark)["led_on"] in (True, None)
    peer.wait(STATUS, is_online, mark)
    assert value("led").identity() == identity  # it did not flicker


def test_state_is_published_again_to_a_broker_that_forgot(broker, lamp, connect):
    peer = connect(broker, "#")
    peer.publish("lamp1/commands", {"led_on": True})
    peer.wait(STATE, {"led_on": True})
    broker.restart()  # without persistence
    late = connect(broker, "#")
    late.wait(STATE, {"led_on": True})
    late.wait(STATUS, is_online)


def test_since_stays_while_the_daemon_runs(broker, lamp, connect):
    first = connect(broker, STATUS).wait(STATUS, is_online)
    broker.restart()
    second = connect(broker, STATUS).wait(STATUS, is_online)
    assert first["since"] == second["since"] or first["since"] < second["since"]
