# SPDX-License-Identifier: LGPL-2.1-or-later
"""A peer that speaks only the plain form, a 30-line script, works with either role, unchanged."""

import pathlib
import sys

import pytest

from support import configs
from support.process import Process
from support.wait import wait_until

PEERS = pathlib.Path(__file__).parent / "peers"


@pytest.fixture
def start_script(tmp_path):
    scripts = []

    def start(name, *args):
        process = Process(name, [sys.executable, PEERS / name, *args], tmp_path / f"{name}.log")
        scripts.append(process)
        return process.start()

    yield start
    for script in scripts:
        script.kill()
        print(f"--- {script.name}\n{script.log()}")


def test_a_plain_device_is_led_by_the_server(broker, start_daemon, start_script, value):
    light = value("light", 12)
    start_daemon("server1", configs.server(broker.port))
    device = start_script("plain_device.py", "127.0.0.1", broker.port, "tutorial", light)
    device.wait_log("^LED on$")
    light.write(900)
    device.wait_log("^LED off$")
    light.write(12)
    device.wait_log("^LED on$", count=2)


def test_a_plain_server_leads_the_device(broker, start_daemon, start_script, value):
    light, led = value("light", 250), value("led")
    start_script("plain_server.py", "127.0.0.1", broker.port)
    start_daemon("lamp1", configs.device(broker.port, light, led))
    led.wait("1\n")
    light.write(900)
    led.wait("0\n")
    light.write(12)
    led.wait("1\n")


def test_a_device_that_subscribes_after_its_first_words_is_told_again(broker, start_daemon, connect):
    """Many a tutorial publishes before its subscription has gone out: nobody heard the command."""
    start_daemon("server1", configs.server(broker.port))
    device = connect(broker, "server1/status")
    device.wait("server1/status", lambda status: status["status"] == "online")
    device.publish("tutorial/telemetry", {"light": 12})
    wait_until(lambda: broker.grep("Sending PUBACK to server1 .*rc16"), "the command that nobody hears")
    late = connect(broker, "tutorial/commands")
    for _ in range(2):
        device.publish("tutorial/telemetry", {"light": 12})
    late.wait("tutorial/commands", {"led_on": True})
