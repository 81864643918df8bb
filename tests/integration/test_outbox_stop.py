# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A stop while the disk is full, has room again, or does not answer, and while nothing else does; and a
role that a reload switches off.
"""

import re
import time

import pytest

from support import configs, crash
from support.disks import Full, Stalled
from support.stored import Stored
from support.wait import wait_until

TELEMETRY = "lamp1/telemetry"

@pytest.fixture
def full(line, make_daemon, value):
    """A daemon that is cut off, with some samples in memory, and its full disk."""
    light = value("light", 1)
    daemon = make_daemon("lamp1", crash.base(line.port) + configs.sensor("light", light, "50ms"))
    disk = Full(daemon)
    daemon.start()
    line.witness.wait(TELEMETRY)
    line.proxy.cut(refuse=True)
    daemon.wait_log("connection to the broker lost")
    disk.begin()
    daemon.wait_log("the queue on disk cannot be written: .*No space left", timeout=60)
    mark = daemon.mark()
    wait_until(lambda: len(daemon.grep('"light": 1}', mark)) >= 100, "samples in memory", 60)
    yield daemon, disk
    disk.close()


def test_a_stop_writes_what_was_in_memory_when_there_is_room_again(line, full):
    daemon, disk = full
    disk.end()
    daemon.stop()
    assert daemon.grep("works again; what was kept in memory is written")
    assert not daemon.grep("lost with this stop")
    Stored(disk.state)
    line.proxy.mend()
    mark = daemon.mark()
    daemon.start()
    daemon.wait_log("back after .* 0 lost", mark)
    daemon.stop()
    seqs = sorted({each.seq for each in line.witness.of(TELEMETRY)})
    assert seqs[-1] - seqs[0] + 1 == len(seqs), "every number has arrived"


def test_a_stop_with_a_full_disk_counts_and_tells_what_is_lost(full):
    daemon, disk = full
    mark = daemon.mark()
    daemon.stop()
    said = daemon.grep("^err.*are lost with this stop")
    assert len(said) == 1
    assert not daemon.grep("works again", mark)
    lost = int(re.search(r"lamp1: (\d+) messages \(telemetry (\d+)\) and \d+ records are lost", said[0])[1])
    assert lost > 0  # before the stop the store may have found some room yet
    assert Stored(disk.state).streams["telemetry"]["dropped"] == lost


@pytest.fixture
def make_stalled(make_daemon):
    """make_stalled(config): a daemon with a disk that may hang, and that disk."""
    disks = []

    def make(config):
        daemon = make_daemon("lamp1", config)
        disks.append(Stalled(daemon))
        return daemon, disks[-1]

    yield make
    for disk in disks:
        disk.end()  # before the daemons are stopped


def stop_in_time(daemon):
    begin = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begin < 2


def test_a_stop_cuts_off_a_commit_that_hangs_and_tells_what_is_lost(line, make_stalled, value):
    light = value("light", 1)
    daemon, disk = make_stalled(crash.base(line.port) + configs.sensor("light", light, "50ms"))
    daemon.start()
    line.witness.wait(TELEMETRY)
    line.proxy.cut(refuse=True)
    daemon.wait_log("connection to the broker lost")
    disk.begin()
    mark = daemon.mark()
    light.write(2)
    daemon.wait_log('"light": 2}', mark, count=10)
    stop_in_time(daemon)
    said = daemon.grep("are lost with this stop", mark)
    assert len(said) == 1
    lost = re.search(
        r"lamp1: (\d+) messages \(telemetry (\d+)\) and .* the queue on disk cannot be written: it does not answer$",
        said[0],
    )
    assert lost and int(lost[1]) >= 10


def test_a_commit_has_its_time_behind_an_actuator_and_a_broker_that_hang(line, make_daemon):
    """What the broker has not acknowledged is first written at the stop: commit_interval is long."""
    hangs = '[actuator arm]\ndriver = exec\ntype = bool\non_exit = safe\nsafe = no\ncommand = sleep 30\n'
    more = hangs + "[queue]\ndurability = outage\ncommit_interval = 1min\n"
    noise = crash.SENSOR.format(name="noise", interval="50ms", stream="telemetry")
    daemon = make_daemon("lamp1", crash.base(line.port) + noise + more).start()
    line.witness.wait(TELEMETRY)
    line.proxy.swallow_acks()
    since = len(line.witness.arrivals)
    line.witness.wait(TELEMETRY, since=since, count=10)
    line.proxy.freeze()
    stop_in_time(daemon)
    assert not daemon.grep("lost with this stop")
    seqs = [each.seq for each in line.witness.of(TELEMETRY, since)]
    stored = Stored(daemon.state_directory).seqs("telemetry")
    assert set(seqs) <= set(stored), "what was not acknowledged has been written"


LOCAL_RULE = """
[rule local]
where = device
when = light > 500
then = {"led_on": true}
else = {"led_on": false}
"""


def test_a_role_that_a_reload_switches_off_writes_its_records(line, make_stalled, value):
    light, led = value("light", 1), value("led")
    config = configs.base(line.port) + configs.sensor("light", light) + configs.actuator("led_on", led)
    daemon, disk = make_stalled(config + LOCAL_RULE)
    daemon.start()
    led.wait("0\n")
    line.witness.wait(TELEMETRY)
    wait_until(
        lambda: ("actuator", "led_on") in Stored(daemon.state_directory, checks=False).records, "the record"
    )
    before = Stored(daemon.state_directory, checks=False).records["actuator", "led_on"]
    disk.begin()
    for _ in range(2):  # the store is at work on something else
        line.witness.wait(TELEMETRY, since=len(line.witness.arrivals))
    light.write(900)  # its rule switches it on, which is to be written down
    led.wait("1\n")
    mark = daemon.reload(configs.server(line.port, "lamp1"))
    daemon.wait_log("configuration reloaded", mark)
    disk.end()
    line.witness.wait("lamp1/status", lambda status: status.get("role") == "server")
    daemon.stop()
    assert Stored(daemon.state_directory).records["actuator", "led_on"] != before
    assert not daemon.grep("lost with this stop")
