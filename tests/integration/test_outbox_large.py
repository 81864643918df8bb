# SPDX-License-Identifier: LGPL-2.1-or-later
"""A million messages on disk: no scan, little memory."""

import time

import pytest

from support import configs, crash
from support.daemon import ROOT, binary
from support.notify import Manager
from support.stored import fill
from support.wait import wait_until

MILLION = 1000000
TELEMETRY = "lamp1/telemetry"


def is_instrumented(path):
    with open(path, "rb") as program:
        return b"__asan_init" in program.read()


@pytest.fixture
def program():
    """One without sanitizers, which take many times the memory."""
    path = ROOT / "build/plain/nightlightd" if is_instrumented(binary()) else binary()
    try:
        assert not is_instrumented(path)
    except FileNotFoundError:
        pytest.skip(f"{path} is not built, and the other one has sanitizers")
    return str(path)


def memory(daemon, name):
    """KiB."""
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


@pytest.mark.slow
def test_a_million_messages_are_opened_at_once_and_drained_in_little_memory(
    tmp_path, line, make_daemon, value, program
):
    manager = Manager(tmp_path)
    config = (
        crash.base(line.port)
        + configs.sensor("light", value("light", 1), "1s")
        + "[queue]\nmax_size = 512M\n"
    )
    daemon = make_daemon("lamp1", config, env=manager.env)
    daemon.argv[daemon.argv.index(binary())] = program
    line.proxy.cut(refuse=True)
    daemon.start()
    manager.wait("READY", "1")
    daemon.stop()
    fill(daemon.state_directory, "telemetry", MILLION, '{"light": %d}')

    times = []
    for _ in range(3):
        mark, begin = manager.mark(), time.monotonic()
        daemon.start()
        manager.wait("READY", "1", mark)
        times.append(manager.times("READY", mark)[0] - begin)
        assert memory(daemon, "VmRSS") <= 16384
        if len(times) < 3:
            daemon.stop()
    assert min(times) <= 0.2, times  # others use this machine too
    line.proxy.mend()
    line.witness.wait("lamp1/status", lambda status: status["queued"] >= MILLION * 9 / 10)
    wait_until(lambda: len(line.witness.arrivals) > 20000, "some", 60)
    assert memory(daemon, "VmHWM") <= 16384
    seqs = [each.seq for each in line.witness.of(TELEMETRY) if b'"light": 1}' not in each.payload]
    assert seqs == sorted(seqs)
    daemon.stop()
    manager.close()
