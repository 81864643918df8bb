# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A stop, a kill -9 and a reload at every step of a disk's trouble: as it begins, while the disk is full,
read-only, failing or stalled, and when it is well again. All the while the broker hears everything and
acknowledges nothing, so that the test knows what the daemon has.

    NIGHTLIGHT_DISK_ROUNDS=20 pytest tests/integration/test_disk_faults.py

says how often each test goes through all steps, each after a pause of chance; unset, it is once, without
the pauses.
"""

import json
import os
import random
import re
import signal
import time

import pytest

from support import crash, mqtt
from support.disks import Failing, Full, ReadOnly, Stalled
from support.home import hostile, make_hostile  # noqa: F401 (fixtures)
from support.mqtt import read_publish
from support.stored import ENDS, Account, Stored
from support.wait import holds_for, wait_until

ROUNDS = int(os.environ.get("NIGHTLIGHT_DISK_ROUNDS", "0"))
LOSSLESS = ("ordered", "live")
STATUS = "lamp1/status"


def config(port, **more):
    """All that is not acknowledged is in flight."""
    return crash.config(port, **more).replace("protocol = 5", "protocol = 5\nmax_inflight = 10000")


class Device:
    """
    A device of two streams that lose nothing and one that keeps the latest, on a disk that the test takes
    away. Its messages are keys here: (stream, run, number).
    """

    def __init__(self, make_daemon, broker, disk):
        self.broker = broker
        self.daemon = make_daemon("lamp1", config(broker.port))
        self.disk = disk(self.daemon)
        self.account = Account(broker, "lamp1", every=LOSSLESS, ordered=("ordered",), latest=("latest",))
        self.on_disk = set()  # at the last death
        self.n_dropped = dict.fromkeys(crash.STREAMS, 0)  # on disk
        self.n_reloads = 0
        self._n_deaf = None  # connections that nothing is acknowledged on; None: all
        self.life = 0  # where what was heard in this life begins
        broker.answer(mqtt.PUBLISH, self._answer)

    def _answer(self, connection, packet):
        is_deaf = self._n_deaf is None or connection.number < self._n_deaf
        is_status = read_publish(connection.level, packet).topic == STATUS
        return b"" if is_deaf and not is_status else self.broker.good(connection, packet)

    # --- what it has said ---

    def heard(self, since=0):
        """What it has said of the streams that lose nothing."""
        topics = {f"lamp1/{stream}": stream for stream in LOSSLESS}
        said = self.broker.published[since:]
        return {(topics[each.topic], each.boot, each.seq) for each in said if each.topic in topics}

    def wait_heard(self):
        """A message in this life. In order there may be none: what is on disk comes first, if it can be read."""
        wait_until(
            lambda: any(each.topic == "lamp1/live" for each in self.broker.published[self.life :]), self.daemon.log
        )

    def gather(self):
        """Some 10 samples of each stream."""
        holds_for(self.daemon.alive, 0.4, self.daemon.log)

    def wait_written(self):
        """What it has said in this life; returns that."""
        heard = self.heard(self.life)
        wait_until(lambda: heard <= self.stored(), "what was in memory to be on disk")
        return heard

    def stored(self):
        return keys_of(Stored(self.disk.state, checks=False))

    # --- what happens ---

    def start(self):
        self.life = len(self.broker.published)
        self.daemon.start()
        self.wait_heard()

    def start_in_trouble(self):
        self.life, mark = len(self.broker.published), self.daemon.mark()
        self.daemon.start()
        if self.disk.delays_a_start:
            self.disk.end()
        self.wait_heard()
        self.disk.begin()  # anew, or in what an end has left free
        self.wait_trouble(mark)

    def begin_trouble(self):
        mark = self.daemon.mark()
        self.disk.begin()
        self.wait_trouble(mark)

    def wait_trouble(self, mark):
        """It has seen that the disk takes nothing, and has something in memory."""
        if self.disk.cause:
            said = f"the queue on disk cannot be written: .*({self.disk.cause})"
            self.daemon.wait_log(said, mark, timeout=60)
        self.gather()

    def look(self):
        """After a death: what was on disk is there still, since nothing was acknowledged."""
        stored = self.account.look(self.disk.state)
        before, self.on_disk = self.on_disk, keys_of(stored)
        assert before <= self.on_disk, sorted(before - self.on_disk)[:20]
        return stored

    def check_balance(self):
        """Of all that it has said of itself."""
        for status in self.broker.objects(STATUS):
            for name, stream in status.get("streams", {}).items():
                total = sum(stream[end] for end in ENDS) + stream["queued"] + stream["in_flight"]
                assert stream["sampled"] == total, (name, stream)

    def missing(self, owed):
        """What the broker has not acknowledged of that."""
        return owed - {(name, each.boot, each.seq) for name in LOSSLESS for each in self.account.arrivals(name)}

    def settle(self, owed=()):
        """The disk is well. The broker acknowledges from now on, and gets what is owed."""
        self._n_deaf = len(self.broker.connections)
        self.broker.cut()
        owed = self.on_disk | set(owed)
        wait_until(lambda: not self.missing(owed), lambda: f"{len(self.missing(owed))} that are owed", 30)
        self.daemon.stop()
        self.broker.wait(STATUS, lambda status: status["status"] == "offline", len(self.broker.arrivals) - 1)
        self.account.check()
        self.account.check_ledger(self.disk.state, self.n_dropped)
        self.check_balance()


def keys_of(stored):
    return {(name, run, seq) for (name, seq), run in stored.runs.items() if name in LOSSLESS}


def paused():
    if ROUNDS:
        time.sleep(random.random())


# --- the ends of a life, and what each must keep ------------------------------------------------------


def lost_by_stream(said):
    """What the one line, if there is one, says."""
    assert len(said) <= 1, said
    text = re.search(r"messages \((.*)\) and", said[0])[1] if said else ""
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", text)}


def stop(device, at_once=lambda: None):
    """What waits is on disk, or told to be lost. Until the end of the goodbye there are more samples."""
    mark, since = device.daemon.mark(), len(device.broker.arrivals)
    device.daemon.signal(signal.SIGTERM)
    at_once()
    assert device.daemon.wait_exit() == 0
    status = json.loads(device.broker.wait(STATUS, lambda said: said["status"] == "offline", since).payload)
    lost = lost_by_stream(device.daemon.grep("are lost with this stop", mark))
    heard = device.heard(device.life)
    n_before = len(device.on_disk)  # which a life that could not read them does not know of
    stored = device.look()
    for name in crash.STREAMS:
        n_lost, said, row = lost.get(name, 0), status["streams"][name], stored.streams[name]
        n_counted = row["dropped"] - device.n_dropped[name]
        assert n_counted in (0, n_lost), (name, n_lost, said, row)  # on disk too, where there is room for that
        device.n_dropped[name] += n_counted
        if name not in LOSSLESS:
            continue
        n_more = sum(key[0] == name for key in device.on_disk) + n_lost - said["queued"] - said["in_flight"]
        assert 0 <= n_more < 100 + n_before, (name, n_more, n_lost, said, row)
        n_gone = sum(key[0] == name for key in heard - device.on_disk)
        assert n_gone <= n_lost, (name, n_gone, n_lost, said, row)
        if n_counted:
            assert row["sampled"] == said["sampled"] + n_more, (name, n_more, n_lost, said, row)
    device.account.kills += bool(lost)
    return lost


def kill(device, at_once=lambda: None):
    device.daemon.kill()
    at_once()
    device.account.kills += 1
    device.look()


def stop_when_well(device):
    """No retry is due yet: the stop itself tries again."""
    device.disk.end()
    paused()
    heard = device.heard(device.life)
    assert not stop(device) and heard <= device.on_disk


def kill_when_well(device):
    device.disk.end()
    heard = device.wait_written()
    kill(device)
    assert heard <= device.on_disk


ENDINGS = {"stop": (stop, stop_when_well), "kill": (kill, kill_when_well)}
DISKS = [Full, ReadOnly, Failing, Stalled]


@pytest.fixture
def make_device(make_daemon, hostile):
    devices = []

    def make(disk):
        devices.append(Device(make_daemon, hostile, disk))
        return devices[-1]

    yield make
    for device in devices:
        device.disk.end()
        device.daemon.kill()
        device.disk.close()


@pytest.mark.parametrize("disk", DISKS, ids=lambda disk: disk.__name__)
@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_lost_untold_by_a(ending, disk, make_device):
    end, end_when_well = ENDINGS[ending]
    device = make_device(disk)
    for n in range(ROUNDS or 1):
        if n:
            device.daemon.stop()
            device.look()
        device.start()
        device.begin_trouble()
        paused()
        end(device)

        device.start_in_trouble()
        paused()
        end_when_well(device)

        device.start()
        paused()
        end(device, at_once=device.disk.begin)

        device.start_in_trouble()
        device.disk.end()
        paused()
        device.wait_written()
    device.settle()


def reload(device):
    device.n_reloads += 1
    interval = f"{40 + device.n_reloads % 2}ms"
    return device.daemon.reload(config(device.broker.port, interval=interval))


@pytest.mark.parametrize("disk", DISKS, ids=lambda disk: disk.__name__)
def test_nothing_is_lost_by_a_reload(disk, make_device):
    device = make_device(disk)
    device.start()
    for n in range(ROUNDS or 1):
        if n and disk.cause:  # it is out of trouble before the next begins
            device.daemon.wait_log("the queue on disk works again", well, timeout=60)
        mark = reload(device)
        device.begin_trouble()
        device.daemon.wait_log("configuration reloaded", mark)
        paused()
        device.daemon.wait_log("configuration reloaded", reload(device))
        device.gather()
        paused()
        well = device.daemon.mark()
        device.disk.end()
        paused()
        device.daemon.wait_log("configuration reloaded", reload(device))
        device.gather()
    device.settle(device.heard())
