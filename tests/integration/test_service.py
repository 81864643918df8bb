# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the daemon behaves as a service: what it tells its manager, how it starts, reloads and ends."""

import os
import signal
import subprocess
import time

import pytest

from support import configs
from support.daemon import binary, daemon_env
from support.notify import Manager
from support.process import free_port
from support.wait import holds_for, wait_until


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.mark.slow
def test_the_status_counts_a_sensor_that_is_stuck(manager, broker, start_daemon):
    deaf = "[sensor deaf]\ndriver = exec\ncommand = sleep 60\ntimeout = 1min\ninterval = 1s\n"
    start_daemon("lamp1", configs.base(broker.port, "device") + deaf, env=manager.env)
    manager.wait("STATUS", "1 of 1 sensors failed")  # after 10 s


def test_ready_does_not_wait_for_the_broker(manager, start_daemon, value):
    config = configs.nightlight(free_port(), value("light", 250), value("led"))
    start_daemon("lamp1", config, env=manager.env)
    manager.wait("READY", "1")
    manager.wait("STATUS")


def test_not_ready_with_a_bad_configuration(manager, make_daemon):
    daemon = make_daemon("lamp1", "[broker]\nhots = x\n", env=manager.env).start()
    assert daemon.wait_exit() == 78
    assert not manager.values("READY")


def test_the_status_follows_the_connection(manager, broker, start_daemon, value):
    config = configs.device(broker.port, value("light", 250), value("led"))
    daemon = start_daemon("lamp1", config, env=manager.env)
    assert f"127.0.0.1:{broker.port}" in manager.wait("STATUS", "connected to")
    mark = manager.mark()
    broker.stop()
    wait_until(
        lambda: [each for each in manager.values("STATUS", mark) if "connected to" not in each],
        "a status without a connection",
    )
    mark = manager.mark()
    broker.start()
    manager.wait("STATUS", "connected to", mark)
    assert daemon.alive()


def test_reloading_and_ready_on_sighup(manager, broker, start_daemon, value):
    config = configs.nightlight(broker.port, value("light", 250), value("led"))
    daemon = start_daemon("lamp1", config, env=manager.env)
    manager.wait("READY")
    mark, before = manager.mark(), time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.reload()
    manager.wait("RELOADING", "1", mark)
    manager.wait("READY", "1", mark)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notes = [note.fields for note in manager.notes[mark:]]
    reloading = next(i for i, fields in enumerate(notes) if "RELOADING" in fields)
    ready = next(i for i, fields in enumerate(notes) if "READY" in fields)
    assert reloading < ready
    assert before <= int(notes[reloading]["MONOTONIC_USEC"]) <= after


def test_ready_again_after_a_bad_reload(manager, broker, start_daemon, value):
    config = configs.nightlight(broker.port, value("light", 250), value("led"))
    daemon = start_daemon("lamp1", config, env=manager.env)
    manager.wait("READY")
    mark = manager.mark()
    daemon.reload("[broker]\nhots = x\n")
    manager.wait("RELOADING", "1", mark)
    manager.wait("READY", "1", mark)
    assert daemon.alive()


SLOW = """
[sensor slow]
driver = exec
command = /bin/sh -c "trap '' TERM; sleep 60"
"""


def test_a_reload_while_starting_does_not_end_the_start(manager, start_daemon, value):
    config = configs.device(free_port(), value("light", 250), value("led")) + SLOW
    daemon = start_daemon("lamp1", config, env=manager.env)
    daemon.wait_log("cannot connect")  # it is at work, and waits for the slow sensor
    mark = daemon.reload()
    daemon.wait_log("configuration reloaded", mark)
    assert not manager.values("READY")
    manager.wait("READY", "1")
    assert len(manager.values("READY")) == 1
    assert not manager.values("RELOADING")


def test_stopping_while_starting_is_the_last_word(manager, broker, start_daemon, value):
    """Neither the slow program, which ignores SIGTERM, nor the frozen broker is waited for."""
    config = configs.device(broker.port, value("light", 250), value("led"), broker="keepalive = 5s") + SLOW
    daemon = start_daemon("lamp1", config, env=manager.env)
    daemon.wait_log("connected to")
    broker.signal(signal.SIGSTOP)
    try:
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit(2) == 0
    finally:
        broker.signal(signal.SIGCONT)
    notes = [note.fields for note in manager.notes]
    assert "STOPPING" in notes[-1], notes
    assert not manager.values("READY")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_stopping_and_a_clean_end(manager, broker, start_daemon, value, number):
    daemon = start_daemon(
        "lamp1", configs.nightlight(broker.port, value("light", 250), value("led")), env=manager.env
    )
    manager.wait("STATUS", "connected")
    mark = manager.mark()
    daemon.signal(number)
    assert daemon.wait_exit(2) == 0
    manager.wait("STOPPING", "1", mark)


def test_the_watchdog_is_fed_in_time(tmp_path, broker, start_daemon, value):
    manager = Manager(tmp_path, watchdog_usec=1_000_000)
    try:
        config = configs.nightlight(broker.port, value("light", 250), value("led"))
        start_daemon("lamp1", config, env=manager.env)
        manager.wait("WATCHDOG", "1", count=6)
        times = manager.times("WATCHDOG")
        gaps = [after - before for before, after in zip(times, times[1:])]
        assert max(gaps) < 0.8, gaps  # half of it is the custom; all of it would be the end
        assert min(gaps[1:]) > 0.05, gaps
    finally:
        manager.close()


def test_the_watchdog_of_another_process_is_left_alone(tmp_path, broker, start_daemon, value):
    manager = Manager(tmp_path, watchdog_usec=200_000)
    try:
        config = configs.nightlight(broker.port, value("light", 250), value("led"))
        start_daemon("lamp1", config, env={**manager.env, "WATCHDOG_PID": os.getpid()})
        manager.wait("READY")
        holds_for(lambda: not manager.values("WATCHDOG"), 0.5, "fed in another's place")
    finally:
        manager.close()


def test_without_a_manager_it_runs_in_the_foreground(broker, start_daemon, value):
    led = value("led")
    daemon = start_daemon("lamp1", configs.nightlight(broker.port, value("light", 250), led))
    led.wait("1\n")
    lines = daemon.log().splitlines()
    assert lines
    levels = {line.split()[0] for line in lines}
    assert levels <= {"error", "warning", "notice", "info", "debug"}, levels


def test_sigterm_right_after_the_start_is_a_clean_end(broker, make_daemon, value):
    config = configs.nightlight(broker.port, value("light", 250), value("led"))
    for i in range(10):
        daemon = make_daemon(f"lamp{i}", config.replace("id = lamp1", f"id = lamp{i}")).start()
        # The signal's default action, before the daemon has taken it over, is an end, too.
        time.sleep(0.005 * i)
        daemon.signal(signal.SIGTERM)
        assert daemon.wait_exit(5) in (0, -signal.SIGTERM)


def test_a_broken_pipe_for_standard_error_is_no_end(broker, connect, value, tmp_path):
    config = tmp_path / "nightlightd.conf"
    config.write_text(configs.nightlight(broker.port, value("light", 250), value("led")))
    peer = connect(broker, "lamp1/telemetry")
    popen = subprocess.Popen(
        [binary(), "--config", config], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=daemon_env({"STATE_DIRECTORY": tmp_path, "RUNTIME_DIRECTORY": tmp_path}),
    )  # fmt: skip
    try:
        peer.wait("lamp1/telemetry")
        popen.stderr.close()
        peer.wait("lamp1/telemetry", since=peer.mark(), count=5)
        popen.terminate()
        assert popen.wait(5) == 0
    finally:
        popen.kill()
        popen.wait()


def test_an_unwritable_state_directory_does_not_stop_this_version(broker, start_daemon, value):
    led = value("led")
    start_daemon(
        "lamp1",
        configs.nightlight(broker.port, value("light", 250), led),
        env={"STATE_DIRECTORY": "/proc/nowhere", "RUNTIME_DIRECTORY": "/proc/nowhere"},
    )
    led.wait("1\n")
