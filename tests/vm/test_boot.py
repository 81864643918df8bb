# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine that boots: with no network, as devices do, and with the power gone in between."""

CONFIG = """
[daemon]
role = device
id = lamp1

[broker]
host = 192.0.2.1
reconnect_max = 5s

[sensor light]
driver = file
path = /var/light

[actuator led]
driver = log

[rule dark]
where = device
when = light < 300
then = {"led": true}
"""

# The broker's machine, at the other end of a cable that is not plugged in yet.
BROKER = """set -e
ip netns add broker
ip link add cable type veth peer name far netns broker
ip netns exec broker ip addr add 192.0.2.1/24 dev far
ip netns exec broker ip link set far up
printf 'listener 1883\\nallow_anonymous true\\n' >/run/broker.conf
ip netns exec broker mosquitto -d -c /run/broker.conf
"""
PLUG_IN = "ip addr add 192.0.2.2/24 dev cable && ip link set cable up"
STATUS = "timeout 20 mosquitto_sub -h 192.0.2.1 -C 1 -t lamp1/status"


def test_it_boots_without_a_network_and_connects_when_there_is_one(vm):
    vm.write("/var/light", "250\n")
    vm.configure(CONFIG)
    vm.run("systemctl enable nightlightd && sync")
    vm.machine.reset()
    vm.run("systemctl is-system-running --wait", check=False)
    assert vm.is_active(), vm.run("systemctl status nightlightd", check=False)
    # Its own rule has run, long before the first connection.
    vm.wait_logged("rule dark")
    assert "unreachable" in vm.wait_logged("192.0.2.1")["MESSAGE"]
    assert "connected" not in vm.unit("StatusText").replace("not connected", "")
    vm.run(BROKER)
    vm.run(PLUG_IN)
    vm.wait(lambda: "connected to 192.0.2.1:1883" in vm.unit("StatusText"), "a connection")
    assert '"online"' in vm.run(STATUS)
    assert vm.unit("NRestarts") == "0"
