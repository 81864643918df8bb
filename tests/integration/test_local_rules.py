# SPDX-License-Identifier: LGPL-2.1-or-later
"""Local control does not wait: not for a broker, not for a name server, not for a black hole."""

import os
import signal
import statistics
import subprocess
import time

import pytest

from support import configs
from support.fakes import BlackHole, DeadNameServer
from support.process import free_port
from support.wait import holds_for, wait_until

LOCAL = configs.RULE + "where = device\n"


def local_nightlight(port, light, led, host="127.0.0.1", role="device"):
    config = (
        configs.base(port, role)
        + configs.sensor("light", light, "5s", "sample_interval = 50ms")
        + configs.actuator("led_on", led)
        + LOCAL
    )
    return config.replace("host = 127.0.0.1", f"host = {host}")


def reaction_times(light, led, changes=20):
    """From the sensor's change to the actuator's, in seconds."""
    times = []
    for i in range(changes):
        reading, lamp = ((10, "1\n"), (900, "0\n"))[i % 2]
        light.write(reading)
        written = time.monotonic()
        while led.read() != lamp:
            assert time.monotonic() - written < 10, "no reaction"
            time.sleep(0.002)
        times.append(time.monotonic() - written)
        time.sleep(0.01 * (i % 5))  # another phase of the sampling each time
    return times


def assert_in_time(times):
    """Sampled every 50 ms. One in twenty may be late, since the machine is shared; none by a lot."""
    assert sorted(times)[int(len(times) * 0.9) - 1] < 0.2, times
    assert max(times) < 1, times
    assert statistics.median(times) < 0.1, times


def assert_ends_in_time(daemon):
    daemon.signal(signal.SIGTERM)
    started = time.monotonic()
    assert daemon.wait_exit(5) == 0
    assert time.monotonic() - started < 2


def test_without_any_broker(start_daemon, value):
    light, led = value("light", 500), value("led")
    daemon = start_daemon("lamp1", local_nightlight(free_port(), light, led))
    assert_in_time(reaction_times(light, led))
    assert_ends_in_time(daemon)


def test_with_a_broker_the_device_decides_alone(broker, start_daemon, connect, value):
    light, led = value("light", 500), value("led")
    peer = connect(broker, "#")
    start_daemon("lamp1", local_nightlight(broker.port, light, led, role="combined"))
    assert_in_time(reaction_times(light, led, 4))
    assert not peer.received("lamp1/commands")
    peer.wait("lamp1/state", {"led_on": False})


def test_a_local_rule_overrides_a_command_only_when_it_changes_its_mind(broker, start_daemon, connect, value):
    light, led = value("light", 10), value("led")
    peer = connect(broker, "#")
    start_daemon("lamp1", local_nightlight(broker.port, light, led))
    led.wait("1\n")
    peer.wait("lamp1/state", {"led_on": True})
    peer.publish("lamp1/commands", {"led_on": False})
    led.wait("0\n")
    holds_for(lambda: led.read() == "0\n", 0.3, "the rule has nothing new to say")
    light.write(900)
    light.write(10)
    peer.wait("lamp1/state", {"led_on": False})


def test_an_interval_does_not_hold_the_rule_up(start_daemon, value):
    """The rule sees each sample; what is published every 5 s is another matter."""
    light, led = value("light", 500), value("led")
    start_daemon("lamp1", local_nightlight(free_port(), light, led))
    assert max(reaction_times(light, led, 6)) < 2


def test_with_a_black_hole_for_a_broker(start_daemon, value):
    hole = BlackHole()
    try:
        light, led = value("light", 500), value("led")
        daemon = start_daemon("lamp1", local_nightlight(hole.port, light, led))
        wait_until(lambda: hole.connections, "a connection that nobody answers")
        assert_in_time(reaction_times(light, led))
        assert_ends_in_time(daemon)
    finally:
        hole.close()


def test_with_a_black_hole_behind_tls(start_daemon, value):
    hole = BlackHole()
    try:
        light, led = value("light", 500), value("led")
        config = local_nightlight(hole.port, light, led)
        daemon = start_daemon("lamp1", config.replace("reconnect_min", "tls = yes\nreconnect_min"))
        wait_until(lambda: hole.connections, "a connection that nobody answers")
        assert_in_time(reaction_times(light, led))
        used = cpu_seconds(daemon)
        holds_for(daemon.alive, 1, "alive")
        assert cpu_seconds(daemon) - used < 0.5, "it spins while it waits for the handshake"
        assert_ends_in_time(daemon)
    finally:
        hole.close()


def cpu_seconds(daemon):
    with open(f"/proc/{daemon.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_broker_that_freezes_holds_nobody_up(broker, start_daemon, value):
    light, led = value("light", 500), value("led")
    daemon = start_daemon("lamp1", local_nightlight(broker.port, light, led))
    wait_until(lambda: broker.connects("lamp1"), "a connection")
    broker.signal(signal.SIGSTOP)
    try:
        assert_in_time(reaction_times(light, led))
        assert_ends_in_time(daemon)
    finally:
        broker.signal(signal.SIGCONT)


# The name server is of the daemon's own mount namespace: a resolv.conf that names it.
UNSHARE = ["unshare", "--mount", "sh", "-c",
           'mount --bind "$1" /etc/resolv.conf && shift && exec "$@"', "sh"]  # fmt: skip


@pytest.fixture
def dead_name_server(tmp_path):
    """The argument vector to run the daemon under, and the server."""
    resolv = tmp_path / "resolv.conf"
    address = f"127.0.{os.getpid() >> 8 & 0xFF}.{(os.getpid() & 0x7F) + 2}"
    resolv.write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
    prefix = [*UNSHARE, str(resolv)]
    if subprocess.run([*prefix, "true"], capture_output=True, timeout=10).returncode != 0:
        pytest.skip("needs the right to make a mount namespace (root)")
    server = DeadNameServer(address)
    yield prefix, server
    server.close()


def test_with_a_name_server_that_hangs(dead_name_server, start_daemon, value):
    prefix, server = dead_name_server
    light, led = value("light", 500), value("led")
    config = local_nightlight(1883, light, led, host="broker.invalid.example")
    daemon = start_daemon("lamp1", config, prefix=prefix)
    wait_until(lambda: server.questions, "the look-up")
    assert_in_time(reaction_times(light, led, 40))
    assert_ends_in_time(daemon)


def test_a_reload_while_the_name_server_hangs(dead_name_server, broker, start_daemon, connect, value):
    prefix, server = dead_name_server
    light, led = value("light", 500), value("led")
    daemon = start_daemon(
        "lamp1", local_nightlight(broker.port, light, led, host="broker.invalid.example"), prefix=prefix
    )
    wait_until(lambda: server.questions, "the look-up")
    daemon.reload(local_nightlight(broker.port, light, led))
    connect(broker, "#").wait("lamp1/status", lambda status: status["status"] == "online")
    assert_in_time(reaction_times(light, led))
    assert_ends_in_time(daemon)


def test_several_reloads_while_the_name_server_hangs(dead_name_server, start_daemon, value):
    prefix, server = dead_name_server
    light, led = value("light", 500), value("led")

    def config(i):
        return local_nightlight(1883, light, led, host=f"broker{i}.invalid.example")

    daemon = start_daemon("lamp1", config(0), prefix=prefix)
    wait_until(lambda: server.questions, "the look-up")
    for i in range(1, 4):
        asked = server.questions
        daemon.reload(config(i))
        wait_until(lambda asked=asked: server.questions > asked, "the next look-up")
    for i in range(4, 10):  # the look-ups that may hang at once are bounded
        mark = daemon.reload(config(i))
        daemon.wait_log("(?i)reload", mark)
    assert_in_time(reaction_times(light, led))
    assert_ends_in_time(daemon)
