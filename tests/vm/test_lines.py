# SPDX-License-Identifier: LGPL-2.1-or-later
"""The drivers on the kernel's own interfaces: GPIO lines, the LED class, industrial I/O."""

import pytest

from guest.hardware import IioDevice
from guest.upgrade import APT, make_upgrade

BASE = "[daemon]\nrole = device\nid = lamp1\n"
BUTTON = """
[sensor button]
driver = gpio
chip = bank
line = BUTTON
edge = both
interval = 1h
"""
LAMP = """
[actuator lamp]
driver = gpio
chip = bank
line = LAMP
"""
RULE = """
[rule light]
where = device
when = button == 1
then = {"lamp": true}
else = {"lamp": false}
"""


@pytest.fixture
def listener(vm, chip, once):
    """All that is said, on a broker that runs, with the chip's lines low."""

    def start():
        vm.start_broker()
        chip.set("BUTTON", 0)
        return vm.listen()

    return once("listener", start)


def wait_level(vm, chip, line, level):
    vm.wait(lambda: chip.level(line) == level, f"{line} = {level}")


def test_the_lines_belong_to_the_group_of_the_service(vm, chip):
    assert vm.run(f"stat -c '%G %a' /dev/{chip.name}") == "gpio 660"
    assert "gpio" in vm.run("id -nG nightlightd").split()


def test_a_button_is_published_and_switches_the_lamp(vm, chip, listener):
    vm.start(BASE + BUTTON + LAMP + RULE)
    listener.wait("lamp1/telemetry", {"button": 0})
    assert chip.user("BUTTON") == "nightlightd" and chip.user("LAMP") == "nightlightd"
    for level in 1, 0, 1:
        mark = listener.mark()
        chip.set("BUTTON", level)
        listener.wait("lamp1/telemetry", {"button": level}, mark)
        listener.wait("lamp1/state", {"lamp": bool(level)}, mark)
        assert chip.level("LAMP") == level


def test_a_button_switches_the_lamp_without_a_broker(vm, chip):
    vm.start(BASE + BUTTON + LAMP + RULE)
    for level in 1, 0, 1:
        chip.set("BUTTON", level)
        wait_level(vm, chip, "LAMP", level)


def test_a_command_switches_a_line(vm, chip, listener):
    vm.start(BASE + LAMP + "active_low = yes\n")
    listener.wait("lamp1/state", {"lamp": False})
    assert chip.level("LAMP") == 1
    vm.publish("lamp1/commands", {"lamp": True})
    wait_level(vm, chip, "LAMP", 0)


def test_a_button_that_bounces_is_pressed_once(vm, chip, listener):
    vm.start(BASE + BUTTON + "debounce = 2s\n")
    listener.wait("lamp1/telemetry", {"button": 0})
    mark = listener.mark()
    chip.set("BUTTON", 1, 0, 1, 0, 1)
    listener.wait("lamp1/telemetry", {"button": 1}, mark)
    vm.run("sleep 3")
    assert listener.messages("lamp1/telemetry", mark) == [{"button": 1}]


def test_each_edge_counts_without_debounce(vm, chip, listener):
    vm.start(BASE + BUTTON)
    listener.wait("lamp1/telemetry", {"button": 0})
    mark = listener.mark()
    chip.set("BUTTON", 1, 0, 1, 0, 1)
    vm.wait(lambda: len(listener.messages("lamp1/telemetry", mark)) == 5, "five edges")
    assert [message["button"] for message in listener.messages("lamp1/telemetry", mark)] == [1, 0, 1, 0, 1]


def test_a_line_that_is_taken_costs_only_itself(vm, chip, listener):
    vm.run("gpioset -m signal $(gpiofind LAMP)=0 &")
    vm.wait(lambda: chip.user("LAMP") == "gpioset", "somebody else to hold the lamp")
    vm.start(BASE + BUTTON + LAMP + RULE)
    entry = vm.wait_logged("actuator lamp")
    assert "gpioset" in entry["MESSAGE"], "by whom is worth knowing"
    assert "PRIORITY" in entry and entry["MESSAGE_ID"]
    mark = listener.mark()
    chip.set("BUTTON", 1)
    listener.wait("lamp1/telemetry", {"button": 1}, mark)
    vm.run("pkill -x gpioset")
    vm.wait_logged("actuator lamp works again")
    # What was decided meanwhile holds.
    wait_level(vm, chip, "LAMP", 1)


def test_a_chip_that_goes_away_and_comes_back(vm, chip, listener):
    vm.write("/run/light", "7\n")
    light = "[sensor light]\ndriver = file\npath = /run/light\ninterval = 1s\n"
    pump = LAMP.replace("lamp", "pump").replace("LAMP", "PUMP")
    # Nobody reads the button for an hour, and nobody sets the pump again.
    vm.start(BASE + light + BUTTON + LAMP + RULE + pump)
    listener.wait("lamp1/telemetry", lambda message: message.get("button") == 0)
    vm.publish("lamp1/commands", {"pump": True})
    wait_level(vm, chip, "PUMP", 1)
    mark = listener.mark()
    chip.go()
    vm.wait_logged("sensor button: ")
    listener.wait("lamp1/state", {"lamp": None, "pump": None}, mark)
    vm.write("/run/light", "8\n")
    listener.wait("lamp1/telemetry", {"light": 8}, mark)
    vm.run("sleep 12")  # the next attempt by itself is 20 s after the one that fails meanwhile
    chip.come()
    vm.wait(lambda: vm.logged("sensor button is back"), "the button", seconds=12)
    wait_level(vm, chip, "PUMP", 1)
    chip.set("BUTTON", 1)
    wait_level(vm, chip, "LAMP", 1)
    assert vm.is_active() and vm.unit("NRestarts") == "0"
    assert vm.unit("NFileDescriptorStore") == "2", "what systemd keeps of a chip that has gone is of no use"


@pytest.fixture
def lit(vm, chip, listener, once):
    """The lamp was switched on by a command, which nobody repeats, and is watched."""

    def start():
        vm.start(BASE + LAMP)
        vm.publish("lamp1/commands", {"lamp": True})
        listener.wait("lamp1/state", {"lamp": True})
        assert chip.level("LAMP") == 1
        return chip.watch("LAMP")

    return once("lit", start)


def test_a_restart_does_not_make_a_line_flicker(vm, chip, listener, lit):
    pid, mark = vm.unit("MainPID"), listener.mark()
    vm.run("systemctl restart nightlightd")
    listener.wait("lamp1/state", {"lamp": True}, mark)
    assert vm.unit("MainPID") != pid and chip.user("LAMP") == "nightlightd"
    assert lit.levels() == ["1"]


def test_an_upgrade_does_not_make_a_line_flicker(vm, chip, listener, lit, deb, tmp_path):
    vm.write("/root/later.deb", make_upgrade(deb, tmp_path).read_bytes())
    pid, mark = vm.unit("MainPID"), listener.mark()
    vm.run(f"{APT} -o DPkg::Options::=--force-confold install /root/later.deb", limit=300)
    vm.wait(lambda: vm.unit("MainPID") not in (pid, "0"), "the restart")
    listener.wait("lamp1/state", {"lamp": True}, mark)
    assert chip.user("LAMP") == "nightlightd"
    assert lit.levels() == ["1"]


def test_the_watch_for_flicker_is_not_blind(vm, chip, listener):
    vm.drop_in("[Service]\nFileDescriptorStoreMax=0\n")
    vm.start(BASE + LAMP)
    vm.publish("lamp1/commands", {"lamp": True})
    listener.wait("lamp1/state", {"lamp": True})
    watch = chip.watch("LAMP")
    vm.run("systemctl restart nightlightd")
    assert watch.levels()[:2] == ["1", "0"]


def test_an_led_of_the_kernel(vm, listener):
    led = "/sys/class/leds/input0::capslock"
    vm.start(BASE + "[actuator lamp]\ndriver = led\nname = input0::capslock\n")
    listener.wait("lamp1/state", {"lamp": False})
    for wanted in True, False:
        vm.publish("lamp1/commands", {"lamp": wanted})
        vm.wait(lambda wanted=wanted: vm.run(f"cat {led}/brightness") == str(int(wanted)), "the brightness")
        listener.wait("lamp1/state", {"lamp": wanted})


def test_an_led_that_only_root_may_set_is_not_silently_dark(vm, listener):
    vm.run("chmod g-w /sys/class/leds/input0::capslock/brightness")
    vm.start(BASE + "[actuator lamp]\ndriver = led\nname = input0::capslock\n")
    vm.publish("lamp1/commands", {"lamp": True})
    assert "ermission denied" in vm.wait_logged("actuator lamp")["MESSAGE"]


def test_a_channel_of_an_iio_device(vm, listener):
    device = IioDevice(vm, "adc0")
    vm.start(BASE + "[sensor voltage]\ndriver = iio\ndevice = adc0\nchannel = voltage0\ninterval = 1s\n"
             "[sensor tilt]\ndriver = iio\ndevice = iio:device0\nchannel = accel_x\ninterval = 1s\n")
    message = listener.wait("lamp1/telemetry", lambda message: len(message) == 2)
    # IIO's rule for a voltage: (raw + offset) * scale, in millivolts.
    raw, offset, scale = (device.read(f"in_voltage0_{each}") for each in ("raw", "offset", "scale"))
    assert message["voltage"] == pytest.approx((raw + offset) * scale, rel=1e-3)
