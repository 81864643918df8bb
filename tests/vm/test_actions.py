# SPDX-License-Identifier: LGPL-2.1-or-later
"""Actions, carried out by the real systemd and logind, with leave of the real polkit."""

import json

import pytest

from guest.guest import CONFIG
from guest.upgrade import APT

EXAMPLE = "/usr/share/doc/nightlightd/examples/50-nightlightd.rules"
RULES = "/etc/polkit-1/rules.d/50-nightlightd.rules"

DEVICE = """
[daemon]
role = device
id = lamp1

[action good]
unit = good.service

[action bad]
unit = bad.service

[action other]
unit = other.service

[action reboot]
"""
# What each runs, and leaves a trace of.
UNITS = {"good": "sleep 3; touch /run/good", "bad": "touch /run/bad; false", "other": "touch /run/other"}


class Device:
    def __init__(self, vm):
        self.vm = vm
        vm.start_broker()
        self.listener = vm.listen()
        for name, script in UNITS.items():
            vm.write(f"/etc/systemd/system/{name}.service",
                     f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{script}'\n")
        vm.run("systemctl daemon-reload")
        vm.start(DEVICE)

    def act(self, action, id=None, since=0):
        """Its reply; the command's id is the action's name unless it says otherwise."""
        id = id or action
        self.vm.publish("lamp1/commands", {"$id": id, "$action": action})
        return self.listener.wait("lamp1/replies", lambda reply: reply["$id"] == id, since)

    def did(self, name):
        return self.vm.run(f"test -e /run/{name}", check=False)[1] == 0


@pytest.fixture
def device(vm, once):
    return once("device", lambda: Device(vm))


def allow(vm, *units, reboot=False):
    """The steps of the manual: copy the example and edit it."""
    vm.run(f"cp {EXAMPLE} {RULES}")
    text = vm.read(RULES)
    edited = text.replace('["backup.service"]', json.dumps(units))
    assert edited != text
    if reboot:
        above, below = edited.split("    // if (")
        edited = above + "    if (" + below.replace("    //", "    ")
    vm.write(RULES, edited)


def test_a_unit_is_started_and_its_end_is_the_reply(vm, device):
    allow(vm, "good.service", "bad.service")
    reply = device.act("good")
    assert device.did("good"), "the reply waits for the end of the job"
    assert reply["status"] == "done" and "reason" not in reply, reply
    reply = device.act("bad")
    assert reply["status"] == "failed" and "'failed'" in reply["reason"], reply
    # Once: the stored reply comes, and nothing runs.
    vm.run("rm /run/good /run/bad")
    mark = device.listener.mark()
    assert device.act("bad", since=mark) == reply
    assert not device.did("bad")


def test_what_polkit_does_not_allow_fails_and_says_so(vm, device):
    for action in "good", "reboot":  # there is no rule at all
        reply = device.act(action)
        assert reply["status"] == "failed" and "polkit" in reply["reason"], reply
    assert vm.wait_logged("action good failed: polkit")["PRIORITY"] == "4"
    allow(vm, "good.service")
    vm.wait(lambda: device.act("good", f"good{device.listener.mark()}")["status"] == "done", "leave")
    for action in "other", "reboot":
        reply = device.act(action, f"{action}2")
        assert reply["status"] == "failed" and "polkit" in reply["reason"], reply
    assert not device.did("other") and vm.is_active()


def test_without_polkit_nothing_can_be_started(vm, device):
    allow(vm, "good.service", reboot=True)
    vm.run(f"{APT} remove polkitd", limit=300)
    for action in "good", "reboot":
        reply = device.act(action)
        assert reply["status"] == "failed" and "polkit" in reply["reason"], reply
    assert not device.did("good")


def test_only_what_the_configuration_names_can_be_started(vm, device):
    allow(vm, "good.service", "other.service", reboot=True)
    vm.configure(DEVICE.replace("[action other]\nunit = other.service", "").replace("[action reboot]", ""))
    assert device.act("reload")["status"] == "done"
    for action in "other", "other.service", "good.service", "reboot":
        assert device.act(action)["status"] == "rejected"
    assert not device.did("other") and not device.did("good")


def test_a_reload_is_answered_with_what_became_of_it(vm, device):
    vm.write("/run/light", "7\n")
    vm.configure(DEVICE + "[sensor light]\ndriver = file\npath = /run/light\ninterval = 1s\n")
    assert device.act("reload")["status"] == "done"
    device.listener.wait("lamp1/telemetry", {"light": 7})
    vm.configure(DEVICE + "[sensr light]\n")
    reply = device.act("reload", "reload2")
    assert reply["status"] == "failed" and CONFIG in reply["reason"] and "sensr" in reply["reason"], reply


def test_a_reboot_is_answered_and_happens_once(vm, device):
    allow(vm, reboot=True)
    vm.run("systemctl enable mosquitto nightlightd && sync")
    boot = vm.read("/proc/sys/kernel/random/boot_id")
    command = json.dumps({"$id": "reboot", "$action": "reboot"})

    def ask():
        # Retained, as by somebody who knows no better: the broker hands it out again after the boot.
        vm.run(f"mosquitto_pub -r -q 1 -t lamp1/commands -m '{command}'")
        reply = device.listener.wait("lamp1/replies", lambda reply: reply["$id"] == "reboot")
        assert reply["status"] == "done", reply
        # Without its broker it ignores SIGTERM, and systemd would wait for it for a minute and a half.
        vm.run("pkill -KILL mosquitto_sub")

    vm.machine.boot_by(ask)
    assert vm.read("/proc/sys/kernel/random/boot_id") != boot
    vm.wait(vm.is_active, "the service")
    device.listener = vm.listen()
    reply = device.act("reboot")
    assert reply["status"] == "done"
    boot = vm.read("/proc/sys/kernel/random/boot_id")
    vm.run("sleep 8")  # a reboot begins 3 s after its reply
    assert vm.read("/proc/sys/kernel/random/boot_id") == boot
    assert vm.run("systemctl is-system-running", check=False)[0] != "stopping"
