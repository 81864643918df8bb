# SPDX-License-Identifier: LGPL-2.1-or-later
"""A stop while the disk is full, or has room again; and a role that a reload switches off."""

import os
import pathlib
import re
import shutil

import pytest

from support import configs, crash, mounts, preload
from support.stored import Stored
from support.wait import wait_until

TELEMETRY = "lamp1/telemetry"

needs_mounts = pytest.mark.skipif(not mounts.can_be_had(), reason="needs root and mount namespaces")


class SmallDisk:
    """A file system of 3 MB for a daemon's state, which can be looked at when the daemon has gone."""

    def __init__(self, daemon):
        self._daemon = daemon
        state = daemon.state_directory
        daemon.argv = [*mounts.prefix(f"mount -t tmpfs -o size=3M none {state}"), *daemon.argv]
        self._fd = -1

    def open(self):
        inside = mounts.seen_by(self._daemon, self._daemon.state_directory)
        self._fd = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
        self.path = pathlib.Path(f"/proc/{os.getpid()}/fd/{self._fd}")

    def fill(self):
        with open(self.path / "filler", "wb", buffering=0) as filler:
            with pytest.raises(OSError):
                while True:
                    filler.write(bytes(4096))

    def make_room(self):
        (self.path / "filler").unlink()

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)


@pytest.fixture
def full(line, make_daemon, value):
    """A daemon that is cut off, with some samples in memory, and its full disk."""
    light = value("light", 1)
    daemon = make_daemon("lamp1", crash.base(line.port) + configs.sensor("light", light, "50ms"))
    disk = SmallDisk(daemon)
    daemon.start()
    line.witness.wait(TELEMETRY)
    disk.open()
    line.proxy.cut(refuse=True)
    daemon.wait_log("connection to the broker lost")
    disk.fill()
    daemon.wait_log("the queue on disk cannot be written: .*No space left", timeout=60)
    mark = daemon.mark()
    wait_until(lambda: len(daemon.grep('"light": 1}', mark)) >= 100, "samples in memory", 60)
    yield daemon, disk
    disk.close()


@needs_mounts
def test_a_stop_writes_what_was_in_memory_when_there_is_room_again(line, full):
    daemon, disk = full
    disk.make_room()
    daemon.stop()
    assert daemon.grep("works again; what was kept in memory is written")
    assert not daemon.grep("lost with this stop")
    Stored(disk.path)
    for name in ("queue.db", "queue.db-wal"):
        if (disk.path / name).exists():
            shutil.copy(disk.path / name, daemon.state_directory)
    # As it is after a start on the same disk.
    daemon.argv = daemon.argv[daemon.argv.index("sh", 4) + 1 :]
    line.proxy.mend()
    mark = daemon.mark()
    daemon.start()
    daemon.wait_log("back after .* 0 lost", mark)
    daemon.stop()
    seqs = sorted({each.seq for each in line.witness.of(TELEMETRY)})
    assert seqs[-1] - seqs[0] + 1 == len(seqs), "every number has arrived"


@needs_mounts
def test_a_stop_with_a_full_disk_counts_and_tells_what_is_lost(full):
    daemon, disk = full
    mark = daemon.mark()
    daemon.stop()
    said = daemon.grep("^err.*are lost with this stop")
    assert len(said) == 1
    assert not daemon.grep("works again", mark)
    lost = int(re.search(r"lamp1: (\d+) messages \(telemetry (\d+)\) and \d+ records are lost", said[0])[1])
    assert lost > 0  # before the stop the store may have found some room yet
    assert Stored(disk.path).streams["telemetry"]["dropped"] == lost


LOCAL_RULE = """
[rule local]
where = device
when = light > 500
then = {"led_on": true}
else = {"led_on": false}
"""


def test_a_role_that_a_reload_switches_off_writes_its_records(tmp_path, line, make_daemon, value):
    light, led = value("light", 1), value("led")
    stall = tmp_path / "stall"
    env = {"LD_PRELOAD": preload.value("diskshim"), "DISKSHIM_STALL": str(stall)}
    config = configs.base(line.port) + configs.sensor("light", light) + configs.actuator("led_on", led)
    daemon = make_daemon("lamp1", config + LOCAL_RULE, env=env).start()
    try:
        led.wait("0\n")
        line.witness.wait(TELEMETRY)
        wait_until(
            lambda: ("actuator", "led_on") in Stored(daemon.state_directory, checks=False).records, "the record"
        )
        before = Stored(daemon.state_directory, checks=False).records["actuator", "led_on"]
        stall.touch()
        for _ in range(2):  # the store is at work on something else
            line.witness.wait(TELEMETRY, since=len(line.witness.arrivals))
        light.write(900)  # its rule switches it on, which is to be written down
        led.wait("1\n")
        mark = daemon.reload(configs.server(line.port, "lamp1"))
        daemon.wait_log("configuration reloaded", mark)
    finally:
        stall.unlink(missing_ok=True)
    line.witness.wait("lamp1/status", lambda status: status.get("role") == "server")
    daemon.stop()
    assert Stored(daemon.state_directory).records["actuator", "led_on"] != before
    assert not daemon.grep("lost with this stop")
