# SPDX-License-Identifier: LGPL-2.1-or-later
"""nightlightctl command and status, over a real broker."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest

from support import configs
from support.daemon import CRASH, binary, daemon_env
from support.proxy import Proxy

LAMP = configs.actuator("led_on", "{led}") + configs.actuator("speed", "{speed}", "type = number\nmax = 10")


def ctl(*args):
    program = pathlib.Path(binary()).with_name("nightlightctl")
    result = subprocess.run(
        [program, *map(str, args)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        text=True,
        env=daemon_env({}),
        check=False,
    )
    assert not re.search(CRASH, result.stderr), result.stderr
    return result


@pytest.fixture
def lamp(broker, start_daemon, value):
    led, speed = value("led"), value("speed")
    text = configs.base(broker.port, "device") + LAMP.format(led=led, speed=speed)
    daemon = start_daemon("lamp1", text)
    broker.wait_log(r"lamp1 1 .*commands")
    daemon.led = led
    return daemon


def command(lamp, text, *args, device="lamp1"):
    return ctl("command", device, text, "--config", lamp.config_path, *args)


def test_a_command_is_carried_out_and_its_reply_printed(lamp):
    result = command(lamp, '{"led_on": true}', "--wait")
    assert result.returncode == 0, result.stderr
    reply = json.loads(result.stdout)
    assert reply["status"] == "done" and reply["state"] == {"led_on": True}
    assert lamp.led.read() == "1\n"


def test_without_wait_it_is_sent(lamp):
    result = command(lamp, '{"led_on": true}')
    assert result.returncode == 0 and json.loads(result.stdout)["$id"].startswith("ctl-")
    lamp.led.wait("1\n")


@pytest.mark.parametrize(
    "text, code",
    [
        ('{"speed": 11}', 2),
        ('{"lid": true}', 2),
        ('{"led_on": true, "$expires": "2020-01-01T00:00:00Z"}', 4),
    ],
)
def test_the_exit_code_says_what_became_of_it(lamp, text, code):
    result = command(lamp, text, "--wait=15s")
    assert result.returncode == code, result.stderr
    assert json.loads(result.stdout)["status"] in ("rejected", "expired")
    assert lamp.led.read() is None


def test_a_failed_and_a_superseded_one(broker, start_daemon, connect):
    """A device that a test plays itself."""
    peer = connect(broker, "#")

    def reply(message):
        said = json.loads(message.payload)
        status = said.get("status", "done")
        peer.publish("fake/replies", {"$id": "of another", "status": "done"})
        peer.publish("fake/replies", {"$id": said["$id"], "status": status})

    server = start_daemon("server1", configs.server(broker.port))
    for status, code in (("failed", 3), ("superseded", 5), ("done", 0)):
        program = pathlib.Path(binary()).with_name("nightlightctl")
        argv = [program, "command", "fake", json.dumps({"status": status}), "-w15s", "-c", server.config_path]
        mark = peer.mark()
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=daemon_env({}))
        reply(peer.wait_raw("fake/commands", since=mark))
        out, _ = process.communicate(timeout=30)
        assert process.returncode == code and json.loads(out)["status"] == status


def test_nobody_answers(lamp):
    result = command(lamp, '{"led_on": true}', "--wait=1s", device="nobody")
    assert result.returncode == 6 and "nobody has not replied" in result.stderr


def test_an_id_of_one_s_own_makes_it_once(lamp):
    first = command(lamp, '{"$id": "mine", "led_on": true}', "--wait")
    lamp.led.write(7)
    second = command(lamp, '{"$id": "mine", "led_on": true}', "--wait")
    assert first.stdout == second.stdout and lamp.led.read() == "7\n"


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["command"],
        ["command", "lamp1"],
        ["command", "la/mp", '{"a": 1}'],
        ["command", "lamp1", "no JSON"],
        ["command", "lamp1", "{}"],
        ["command", "lamp1", '{"a": 1}', "--wait=soon"],
        ["command", "lamp1", '{"a": 1}', "more"],
        ["status", "a", "b"],
        ["status", "+"],
        ["statsu"],
    ],
)
def test_bad_arguments_are_refused(tmp_path, args):
    config = tmp_path / "nightlightd.conf"
    config.write_text("[daemon]\nid = here\n")
    more = ["--config", config] if args and args[0] in ("command", "status") else []
    result = ctl(*args, *more)
    assert result.returncode == 1 and (result.stderr or "Usage" in result.stdout)


def broker_config(tmp_path, port, host="127.0.0.1", more=""):
    config = tmp_path / "nightlightd.conf"
    config.write_text(f"[daemon]\nid = here\n[broker]\nhost = {host}\nport = {port}\n{more}")
    return config


def told_at_once(*args):
    """What is said on standard error; nobody waits for the 15 s that a silent broker has."""
    begin = time.monotonic()
    result = ctl(*args)
    assert time.monotonic() - begin < 8 and result.returncode == 1 and not result.stdout
    return result.stderr


@pytest.mark.parametrize("args", [["status"], ["command", "lamp1", '{"led_on": true}', "--wait=1min"]])
def test_a_broker_that_is_not_there_or_refuses_is_told_at_once(tmp_path, start_broker, args):
    broker = start_broker(listener="allow_anonymous false")
    said = told_at_once(*args, "--config", broker_config(tmp_path, broker.port))
    assert "not authorised" in said
    broker.stop()
    said = told_at_once(*args, "--config", broker_config(tmp_path, broker.port))
    assert f"127.0.0.1:{broker.port}: Connection refused" in said
    said = told_at_once(*args, "--config", broker_config(tmp_path, broker.port, "127.0.0.1 127.0.0.2"))
    assert "127.0.0.1" in said and "127.0.0.2" in said
    secret = "username = a\npassword_file = /none\n"  # the same of each host
    said = told_at_once(*args, "--config", broker_config(tmp_path, 1883, "127.0.0.1 127.0.0.2", secret))
    assert "/none" in said


def test_a_name_that_is_not_known_is_told(tmp_path):
    result = ctl("status", "--config", broker_config(tmp_path, 1883, "nobody.invalid"))
    assert result.returncode == 1 and "nobody.invalid" in result.stderr


def test_the_next_host_is_tried(tmp_path, lamp, connect, broker):
    connect(broker, "lamp1/status").wait("lamp1/status")
    config = broker_config(tmp_path, broker.port, "127.0.0.2 127.0.0.1")
    result = ctl("status", "lamp1", "--config", config)
    assert result.returncode == 0 and not result.stderr


def test_a_connection_that_is_lost_while_it_waits_comes_back(tmp_path, broker, connect):
    proxy = Proxy(broker.port)
    try:
        peer = connect(broker, "fake/commands")
        program = pathlib.Path(binary()).with_name("nightlightctl")
        config = broker_config(tmp_path, proxy.port, more="reconnect_min = 100ms\nreconnect_max = 100ms\n")
        argv = [program, "command", "fake", '{"$id": "a1", "a": 1}', "-w30s", "-c", config]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=daemon_env({}))
        peer.wait_raw("fake/commands")
        mark = broker.mark()
        proxy.cut()
        broker.wait_log(r"nightlightctl-\S+ 1 fake/replies", mark)
        peer.publish("fake/replies", {"$id": "a1", "status": "done"})
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and json.loads(out)["status"] == "done"
    finally:
        proxy.close()


def test_a_bad_configuration_has_its_exit_code(tmp_path):
    config = tmp_path / "nightlightd.conf"
    config.write_text("[broker]\nprot = 1\n")
    result = ctl("status", "--config", config)
    assert result.returncode == 78 and "prot" in result.stderr


def test_the_status_is_a_table(lamp, connect, broker):
    peer = connect(broker, "lamp1/status")
    peer.wait("lamp1/status")
    result = ctl("status", "--config", lamp.config_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^ *device: lamp1$", result.stdout, re.M)
    assert re.search(r"^ *status: online$", result.stdout, re.M)
    assert re.search(r"^streams +sampled +", result.stdout, re.M)
    assert re.search(r"^telemetry +0 +0 ", result.stdout, re.M)
    other = ctl("status", "nobody", "-c", lamp.config_path)
    assert other.returncode == 6


def test_what_a_peer_says_cannot_write_on_the_terminal(lamp, connect, broker):
    peer = connect(broker)
    evil = {"status": "\x1b[2J", "st\x07": {"a\nb": {"c": "\x9b1m"}}, "x": [1, {"y": 2}], "deep": {"z": None}}
    peer.publish("evil/status", evil, retain=True)
    result = ctl("status", "evil", "-c", lamp.config_path)
    assert result.returncode == 0 and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", result.stdout)


def test_help_and_version():
    for args in (["--help"], ["command", "--help"], ["status", "--help"]):
        result = ctl(*args)
        assert result.returncode == 0 and "Usage: nightlightctl" in result.stdout
    assert os.path.basename(ctl("--version").stdout.split()[0]) == "nightlightctl"
