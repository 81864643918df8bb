# SPDX-License-Identifier: LGPL-2.1-or-later
"""Lines that the kernel of this machine does not have: tests/gpioshim answers in its place."""

import ctypes
import statistics
import time

import pytest

from support import configs, mounts, preload
from support.notify import Manager
from support.process import free_port
from support.wait import wait_until
from test_local_rules import assert_ends_in_time, dead_name_server  # noqa: F401

BUTTON, LAMP, PUMP = 0, 1, 2

CONFIG = """
[sensor button]
driver = gpio
chip = bank
line = BUTTON
edge = both
interval = 1min

[actuator lamp]
driver = gpio
chip = bank
line = LAMP

[actuator pump]
driver = gpio
chip = bank
line = PUMP
active_low = yes
"""

RULE = """
[rule light]
where = device
when = button == 1
then = {"lamp": true}
else = {"lamp": false}
"""


@pytest.fixture
def lines(tmp_path):
    """The chip, and the environment in which a daemon finds it."""
    shim = ctypes.CDLL(str(preload.path("gpioshim")))
    world = str(tmp_path / "gpio")
    assert shim.gpioshim_create(world.encode()) == 0
    shim.chip = shim.gpioshim_add_chip(b"bank", b"BUTTON LAMP PUMP")
    shim.env = {"LD_PRELOAD": preload.value("gpioshim"), "GPIOSHIM": world}
    return shim


def is_held(lines, line):
    return lines.gpioshim_is_held(lines.chip, line)


def test_an_edge_is_published_at_once_and_a_command_moves_a_line(lines, broker, start_daemon, connect):
    peer = connect(broker, "#")
    start_daemon("lamp1", configs.base(broker.port, "device") + CONFIG, env=lines.env)
    peer.wait("lamp1/telemetry", {"button": 0})
    mark = peer.mark()
    lines.gpioshim_set(lines.chip, BUTTON, 1)
    peer.wait("lamp1/telemetry", {"button": 1}, mark)
    peer.publish("lamp1/commands", {"lamp": True, "pump": False})
    peer.wait("lamp1/state", {"lamp": True, "pump": False})
    assert lines.gpioshim_level(lines.chip, LAMP) == 1
    assert lines.gpioshim_level(lines.chip, PUMP) == 1, "active_low: off is high"


def test_an_edge_reaches_the_output_while_the_name_server_hangs(dead_name_server, lines, start_daemon):  # noqa: F811
    prefix, server = dead_name_server
    config = configs.base(1883, "device").replace("127.0.0.1", "broker.invalid.example")
    daemon = start_daemon("lamp1", config + CONFIG + RULE, prefix=prefix, env=lines.env)
    wait_until(lambda: server.questions, "the look-up")
    wait_until(lambda: is_held(lines, BUTTON) and is_held(lines, LAMP), "the lines")
    times = []
    for i in range(100):
        level = (i + 1) % 2
        begin = time.monotonic()
        lines.gpioshim_set(lines.chip, BUTTON, level)
        while lines.gpioshim_level(lines.chip, LAMP) != level:
            assert time.monotonic() - begin < 5, "no reaction"
        times.append(time.monotonic() - begin)
    # A sanitizer build on a shared machine; bench/ is the place for microseconds.
    assert statistics.median(times) < 0.02, times
    assert sorted(times)[95] < 0.1, times
    assert_ends_in_time(daemon)


def test_a_chip_that_goes_away_costs_only_its_own(lines, broker, start_daemon, connect, value):
    light = value("light", 7)
    config = configs.base(broker.port, "device") + configs.sensor("light", light) + CONFIG
    peer = connect(broker, "#")
    daemon = start_daemon("lamp1", config.replace("interval = 1min", "interval = 100ms"), env=lines.env)
    peer.wait("lamp1/telemetry", {"button": 0, "light": 7})
    lines.gpioshim_remove(lines.chip)
    daemon.wait_log("^warning sensor button: ")
    mark = peer.mark()
    peer.wait("lamp1/telemetry", {"light": 7}, mark)
    lines.chip = lines.gpioshim_add_chip(b"bank", b"BUTTON LAMP PUMP")
    daemon.wait_log("^notice +sensor button is back")
    mark = peer.mark()
    lines.gpioshim_set(lines.chip, BUTTON, 1)
    peer.wait("lamp1/telemetry", {"button": 1, "light": 7}, mark)


def test_a_chip_that_goes_away_shows_at_once_and_is_soon_tried_again(lines, broker, start_daemon, connect, tmp_path):
    manager = Manager(tmp_path)
    try:
        config = (configs.base(broker.port, "device") + CONFIG).replace("1min", "1h")
        daemon = start_daemon("lamp1", config, env={**lines.env, **manager.env})
        connect(broker, "#").wait("lamp1/telemetry", {"button": 0})
        lines.gpioshim_remove(lines.chip)
        manager.wait("STATUS", "1 of 1 sensors failed", timeout=5)
        # An hour's interval is no reason to miss its edges for an hour.
        lines.chip = lines.gpioshim_add_chip(b"bank", b"BUTTON LAMP PUMP")
        daemon.wait_log("^notice +sensor button is back", timeout=20)
    finally:
        manager.close()


@pytest.mark.skipif(not mounts.can_be_had(), reason="a /dev of its own takes root")
def test_what_happens_to_the_node_of_a_chip_is_seen_at_once(lines, broker, start_daemon, connect, tmp_path):
    nodes = tmp_path / "dev"
    nodes.mkdir()
    (nodes / "null").touch()
    peer = connect(broker, "#")
    config = (configs.base(broker.port, "device") + CONFIG).replace("1min", "1h")
    prefix = mounts.prefix(f"mount --bind /dev/null {nodes}/null && mount --rbind {nodes} /dev")
    daemon = start_daemon("lamp1", config, prefix=prefix, env=lines.env)
    peer.wait("lamp1/state", {"lamp": False, "pump": False})
    peer.publish("lamp1/commands", {"pump": True})
    peer.wait("lamp1/state", {"lamp": False, "pump": True})
    lines.gpioshim_remove(lines.chip)
    mark = peer.mark()
    (nodes / "gpiochip0").touch()
    peer.wait("lamp1/state", {"lamp": None, "pump": None}, mark)
    lines.chip = lines.gpioshim_add_chip(b"bank", b"BUTTON LAMP PUMP")
    (nodes / "gpiochip1").touch()
    # It would be tried again after ten seconds.
    daemon.wait_log("^notice +sensor button is back", timeout=5)
    mark = peer.mark()
    peer.publish("lamp1/commands", {"lamp": False})
    peer.wait("lamp1/state", {"lamp": False, "pump": True}, mark)
    assert lines.gpioshim_level(lines.chip, PUMP) == 0, "active_low: on is low"


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def start_and_set(lines, daemon, peer, listen=None):
    """Both outputs are on, and how often each has moved so far."""
    daemon.start(listen)
    peer.wait("lamp1/state")
    peer.publish("lamp1/commands", {"lamp": True, "pump": True})
    peer.wait("lamp1/state", {"lamp": True, "pump": True})
    return [lines.gpioshim_changes(lines.chip, line) for line in (LAMP, PUMP)]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_outputs_do_not_flicker_over_a_restart(lines, manager, broker, make_daemon, connect, end):
    peer = connect(broker, "#")
    daemon = make_daemon("lamp1", configs.base(broker.port, "device") + CONFIG, env={**lines.env, **manager.env})
    changes = start_and_set(lines, daemon, peer)
    assert set(manager.store) == {f"gpio-gpiochip{lines.chip}-{line}" for line in (LAMP, PUMP)}
    for _ in range(2):
        getattr(daemon, end)()
        assert is_held(lines, LAMP) and is_held(lines, PUMP), "by systemd, meanwhile"
        mark = peer.mark()
        daemon.start(manager.store)
        peer.wait("lamp1/state", {"lamp": True, "pump": True}, mark)
        assert [lines.gpioshim_changes(lines.chip, line) for line in (LAMP, PUMP)] == changes
        assert [lines.gpioshim_requests(lines.chip, line) for line in (LAMP, PUMP)] == [1, 1]
    peer.publish("lamp1/commands", {"lamp": False})
    peer.wait("lamp1/state", {"lamp": False, "pump": True})
    assert lines.gpioshim_level(lines.chip, LAMP) == 0, "it is driven, not just held"


def test_an_output_that_is_configured_no_more_is_released(lines, manager, broker, make_daemon, connect):
    peer = connect(broker, "#")
    base = configs.base(broker.port, "device")
    daemon = make_daemon("lamp1", base + CONFIG, env={**lines.env, **manager.env})
    start_and_set(lines, daemon, peer)
    without_pump = base + CONFIG[: CONFIG.index("[actuator pump]")]
    daemon.reload(without_pump)
    wait_until(lambda: not is_held(lines, PUMP), "the pump's line is free")
    assert is_held(lines, LAMP)
    daemon.stop()
    daemon.configure(base)  # and while it does not run
    daemon.start(manager.store)
    wait_until(lambda: not is_held(lines, LAMP), "the lamp's line is free")
    assert not manager.store


def test_a_changed_section_of_an_output_moves_nothing(lines, broker, make_daemon, connect):
    peer = connect(broker, "#")
    config = configs.base(broker.port, "device") + CONFIG
    daemon = make_daemon("lamp1", config, env=lines.env)
    changes = start_and_set(lines, daemon, peer)
    mark = peer.mark()
    daemon.reload(config.replace("chip = bank\nline = PUMP", "chip = 0\nline = PUMP"))
    daemon.wait_log("configuration reloaded")
    peer.wait("lamp1/state", {"lamp": True, "pump": True}, mark)
    assert [lines.gpioshim_changes(lines.chip, line) for line in (LAMP, PUMP)] == changes


def test_a_line_that_is_not_there_is_named_with_those_that_are(lines, start_daemon):
    config = configs.base(free_port(), "device") + CONFIG.replace("chip = bank", "chip = bnak")
    daemon = start_daemon("lamp1", config, env=lines.env)
    daemon.wait_log("^warning sensor button: there is no GPIO chip 'bnak', but gpiochip0 .bank.")
