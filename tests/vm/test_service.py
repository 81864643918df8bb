# SPDX-License-Identifier: LGPL-2.1-or-later
"""The unit under a real systemd: what an administrator sees of it, and what it survives."""

import re
import time

import pytest

from guest.guest import CONFIG, UNIT

NIGHTLIGHT = """
[daemon]
id = lamp1

[sensor light]
driver = file
path = /run/light
interval = 1s

[actuator led_on]
driver = log

[rule nightlight]
when = light < 300
until = light > 320
then = {"led_on": true}
else = {"led_on": false}
"""
# An emulated CPU feeds it late; the shipped 30 s would have each test wait as long.
SHORT_WATCHDOG = "[Service]\nWatchdogSec=5s\n"


@pytest.fixture
def running(vm, once):
    """The nightlight, connected, with its light at 250."""

    def start():
        vm.start_broker()
        vm.write("/run/light", "250\n")
        vm.start(NIGHTLIGHT)
        wait_connected(vm)

    once("nightlight", start)
    return vm


def wait_connected(vm):
    vm.wait(lambda: vm.unit("StatusText").count("connected to") == 2, "both roles' connections")


def test_it_starts_and_says_how_it_is(running):
    assert running.is_active()
    status = running.run("systemctl status nightlightd")
    assert re.search(r"Active: active \(running\)", status), status
    # What somebody with a dark lamp wants to know first.
    assert re.search(r'Status: ".*connected to localhost:1883.*"', status), status


def test_systemd_calls_it_started_only_when_its_outputs_are_set(vm, chip):
    config = "[actuator led]\ndriver = gpio\nchip = bank\nline = LAMP\nactive_low = yes\n"
    vm.configure(config)
    # No broker: nobody can command it, and nothing is waited for.
    lamp = f"{chip.attributes}/sim_gpio1/value"
    assert vm.run(f"systemctl start nightlightd && cat {lamp}") == "1", "off is high"
    assert not vm.logged("connected to localhost")


def test_a_good_reload_changes_what_changed(running):
    listener = running.listen()
    pid = running.unit("MainPID")
    running.write("/run/wind", "7\n")
    running.configure(NIGHTLIGHT + "[sensor wind]\ndriver = file\npath = /run/wind\ninterval = 1s\n")
    running.run("systemctl reload nightlightd")
    listener.wait("lamp1/telemetry", lambda message: message.get("wind") == 7)
    assert running.unit("MainPID") == pid
    running.wait(lambda: running.unit("ActiveState") == "active", "READY after the reload")


def test_a_bad_reload_changes_nothing_and_is_reported(running):
    listener = running.listen()
    pid = running.unit("MainPID")
    running.configure(NIGHTLIGHT.replace("interval = 1s", "intervall = 1s"))
    running.run("systemctl reload nightlightd")
    entry = running.wait_logged("sensor light.intervall")
    assert entry["PRIORITY"] == "3" and "interval" in entry["MESSAGE"], entry
    running.write("/run/light", "251\n")
    listener.wait("lamp1/telemetry", {"light": 251})
    running.wait(running.is_active, "READY after the reload")
    assert running.unit("MainPID") == pid


def test_a_restart_is_a_new_process_that_connects_again(running):
    pid = running.unit("MainPID")
    running.run("systemctl restart nightlightd")
    assert running.is_active() and running.unit("MainPID") != pid
    wait_connected(running)


def test_a_stop_says_goodbye(running):
    listener = running.listen()
    running.run("systemctl stop nightlightd")
    assert running.unit("Result") == "success" and running.unit("ExecMainStatus") == "0"
    listener.wait("lamp1/status", lambda message: message["status"] == "offline")


def test_a_stop_does_not_wait_for_a_broker_that_hangs(running):
    running.run("systemctl kill --signal=SIGSTOP mosquitto")
    begin = time.monotonic()
    running.run("systemctl stop nightlightd")
    # It promises 2 s on hardware; TimeoutStopSec= would end it with a failure.
    assert time.monotonic() - begin < 8
    assert running.unit("Result") == "success"


def test_what_is_killed_is_started_again(running):
    pid = running.unit("MainPID")
    running.run("systemctl kill --signal=SIGKILL nightlightd")
    running.wait(lambda: running.unit("NRestarts") == "1" and running.is_active(), "the restart")
    assert running.unit("MainPID") != pid
    wait_connected(running)


def test_it_is_started_again_however_often_it_crashes(running):
    # Five starts within ten seconds are what systemd takes by default.
    running.drop_in("[Service]\nRestartSec=100ms\n")
    for n in range(1, 7):
        running.run("systemctl kill --signal=SIGKILL nightlightd")
        running.wait(lambda n=n: int(running.unit("NRestarts")) >= n and running.is_active(), "the restart")


def test_what_hangs_is_killed_by_the_watchdog_and_comes_back(vm):
    vm.start_broker()
    vm.write("/run/light", "250\n")
    vm.drop_in(SHORT_WATCHDOG + "TimeoutAbortSec=1s\n")
    vm.start(NIGHTLIGHT)
    wait_connected(vm)
    # It is not the watchdog's to end what works.
    vm.run("sleep 12")
    assert vm.unit("NRestarts") == "0"
    vm.run("systemctl kill --signal=SIGSTOP nightlightd")
    vm.wait(lambda: vm.unit("NRestarts") == "1" and vm.is_active(), "the restart")
    assert "Watchdog timeout" in vm.run(f"journalctl -b -u {UNIT} -o cat")
    wait_connected(vm)


def test_a_bad_configuration_stays_down_and_names_the_mistake(vm):
    vm.configure(NIGHTLIGHT.replace("[sensor light]", "[sensr light]"))
    output, status = vm.run("systemctl start nightlightd", check=False)
    assert status != 0, output
    entry = vm.logged(f"{CONFIG}:5:")
    assert entry and "sensr" in entry["MESSAGE"] and "sensor" in entry["MESSAGE"], vm.journal()
    assert entry["PRIORITY"] == "3"
    vm.run("sleep 4")  # RestartSec= is 2 s
    assert vm.unit("ActiveState") == "failed"
    assert vm.unit("ExecMainStatus") == "78"
    assert vm.unit("NRestarts") == "0"


def test_the_journal_has_fields_and_explains_itself(running):
    ready = running.wait_logged("is up")
    assert ready["SYSLOG_IDENTIFIER"] == "nightlightd"
    assert ready["DEVICE"] == "lamp1"
    assert ready["PRIORITY"] == "5"
    # By the unit's name, and by a field: what people filter by.
    running.wait_logged("rule nightlight")
    assert running.run(f"journalctl -q -o cat _SYSTEMD_UNIT={UNIT} DEVICE=lamp1 RULE=nightlight")
    running.wait_logged("connected to")  # it is up before that, and need not be connected yet
    text = running.run("journalctl -x -u nightlightd --no-pager")
    assert "Subject: Connected to the MQTT broker" in text, text
    assert "Subject: nightlightd is ready" in text, text


def test_the_sandbox_scores_well(vm):
    table = vm.run("systemd-analyze security --no-pager nightlightd")
    score = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", table)[1])
    assert score < 2.0, table


# What a program in the sandbox tries, and whether it may.
ATTEMPTS = {
    "read-disk": ("head -c 1 /dev/vda", False),
    "write-etc": ("touch /etc/nightlightd/x", False),
    "read-home": ("ls -d /root/*", False),
    "see-others": ("test -d /proc/1", False),
    "load-module": ("modprobe loop", False),
    "set-clock": ("date -s @0", False),
    "become-root": ("unshare -r true", False),
    "raw-socket": ("ip link", False),
    "write-state": ("touch /var/lib/nightlightd/x", True),
    "open-chip": ("gpioget bank 0", True),
}


def test_the_sandbox_holds_what_it_promises(vm, chip):
    """A program of an `exec` sensor is the worst that a configuration can bring in."""
    attempts = "".join(f'if {command} >/dev/null 2>&1; then touch $d/{name}; fi\n'
                       for name, (command, _) in ATTEMPTS.items())
    vm.write("/usr/local/bin/intruder",
             f"#!/bin/bash\nd=/run/nightlightd\nexport PATH=$PATH:/usr/sbin\n{attempts}"
             f"touch $d/done\necho 1\n", 0o755)
    vm.start("[sensor intruder]\ndriver = exec\ncommand = /usr/local/bin/intruder\ninterval = 1h\n"
             "timeout = 1min\n")
    vm.wait(lambda: "done" in vm.run("ls /run/nightlightd"), "the program's end")
    done = set(vm.run("ls /run/nightlightd").split())
    assert {name for name in ATTEMPTS if name in done} == {
        name for name, (_, allowed) in ATTEMPTS.items() if allowed}
