# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The power is cut while the daemon samples, drains and carries out commands, at random moments, and
the disk loses, tears or reorders what it was not told to flush: what strict had sent was committed
before, batched loses no more than its interval, what is found is accounted for and delivered, and no
command that was answered is carried out again.

    NIGHTLIGHT_POWER_CUTS=200 NIGHTLIGHT_POWER_SEED=1 pytest tests/integration/test_power.py

looks at so many cuts in each mode of durability, from that seed, and records for longer; unset, at
some dozens from a seed of the hour's own, which a failure tells.
"""

import datetime
import os
import random
import shutil
import time
import uuid

import pytest

from support import plug
from support.arm import Arm, replies_in
from support.stored import Account, Stored

CUTS = int(os.environ.get("NIGHTLIGHT_POWER_CUTS", 0))
SEED = int(os.environ.get("NIGHTLIGHT_POWER_SEED", 0)) or int(time.time())
SECONDS = 30 if CUTS else 10
# Every so many cuts the daemon goes on from what is found; the others are looked at only.
GOES_ON_EVERY = 4 if CUTS else 6

EVERY, LATEST = ("ordered", "live"), ("latest",)
# The support's commit_interval, and what a slow machine may add until the disk has it.
PATIENCE_SECONDS = 0.1 + 1.5

# A power cut is followed by another boot.
OTHER_BOOT = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'

pytestmark = pytest.mark.skipif(bool(plug.why_not()), reason=plug.why_not())


ARM = """
[actuator arm]
driver = exec
command = /bin/sh -c "echo $0 >>{path}"
type = number
min = 0
max = 1000000
"""


def seconds(time_property):
    return datetime.datetime.fromisoformat(time_property.replace("Z", "+00:00")).timestamp()


class Spliced:
    """A witness of what arrived until the power was cut, and from some arrival on."""

    def __init__(self, witness, until, since):
        self._witness, self._before, self._since = witness, witness.arrivals[:until], since

    @property
    def arrivals(self):
        return self._before + self._witness.arrivals[self._since :]

    def of(self, topic):
        return [arrival for arrival in self.arrivals if arrival.topic == topic]

    def objects(self, topic):
        return self._witness.objects(topic, self._since)


class Truth:
    """What the recorded run made known in the end: when each sample was taken."""

    def __init__(self, witness):
        self.taken = {}  # (stream, seq): seconds
        self._arrivals = list(witness.arrivals)
        for stream in EVERY:
            for each in witness.of(f"lamp1/{stream}"):
                self.taken[stream, each.seq] = seconds(each.time)

    def seen(self, stream, cut):
        """The numbers that had arrived when the power was cut."""
        before = self._arrivals[: cut.said["arrivals"]]
        return {each.seq for each in before if each.topic == f"lamp1/{stream}" and not each.retain}

    def replies(self, cut):
        """The replies that had arrived when the power was cut, by the command's id."""
        return replies_in(self._arrivals[: cut.said["arrivals"]])

    def check(self, cut, stored, durability):
        """What the disk must hold after the cut."""
        for name in self.replies(cut):
            assert ("command", name) in stored.records, f"{name} was answered, and is forgotten"
        for stream in EVERY + LATEST:
            seen = self.seen(stream, cut)
            row = stored.streams.get(stream, {"reserved_seq": 0, "sampled": 0})
            if durability == "strict":  # else a new run may use them again
                known = max([row["reserved_seq"] - 1, *stored.seqs(stream)])
                assert max(seen, default=-1) <= known, f"{stream}: {max(seen)} again, {row}"
            if durability == "strict" and stream in EVERY:
                assert row["sampled"] >= len(seen), f"{stream}: {len(seen)} were sent, {row}"
        there = set(stored.messages)
        deadline = cut.said["wall"] - PATIENCE_SECONDS
        for stream in EVERY:
            seen = self.seen(stream, cut)
            there.update((stream, seq) for seq in seen)
            sent = max(seen, default=0) if durability == "strict" else 0
            missing = [
                seq for (name, seq), taken in self.taken.items()
                if name == stream and (taken < deadline or seq < sent) and (name, seq) not in there
            ]  # fmt: skip
            assert not missing, f"{stream}: {sorted(missing)} are lost; sent: {sorted(seen)[-5:]}"


def live(world, choice):
    """The broker goes and comes, in several ways and for some time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(choice.uniform(0.2, 1))
        event = choice.randrange(4)
        if event == 0:
            world.kill_broker()
        elif event == 1:
            world.proxy.swallow_acks()
            time.sleep(choice.uniform(0.05, 0.5))
            world.proxy.cut()
        else:
            world.proxy.cut(refuse=True)
            time.sleep(choice.uniform(0.5, 4))
        world.proxy.mend()


def record(world, arm, directory, choice):
    """A run on the disk that is recorded, and the truth about it."""
    state = world.daemon.state_directory

    def known():
        return {"wall": time.time(), "arrivals": len(world.witness.arrivals)}

    recording = plug.Recording(directory, state, known)
    with recording:
        try:
            world.start_daemon()
            world.wait_up()
            live(world, choice)
            arm.close()
            world.settle()
        finally:
            arm.close()
            world.daemon.kill()  # else it would hold the disk
    moves = arm.moves()
    assert len(moves) == len(set(moves)), moves
    return recording, Truth(world.witness)


def go_on(world, arm, make_daemon, cut, state, replies):
    """The daemon starts from what is found, in another boot, and delivers what is owed."""
    boot = state.with_name("boot_id")
    boot.write_text(f"{uuid.uuid4()}\n")
    prefix = ["unshare", "--mount", "sh", "-c", OTHER_BOOT, boot]
    daemon = make_daemon(state.name + "-on", world.daemon.config_path.read_text(), prefix=prefix)
    shutil.rmtree(daemon.state_directory)
    shutil.copytree(state, daemon.state_directory)
    since = len(world.witness.arrivals)
    account = Account(
        Spliced(world.witness, cut.said["arrivals"], since), "lamp1", every=EVERY, ordered=("ordered",), latest=LATEST
    )
    # What was not committed is missing, of what waited and of what was sent before it.
    account.kills = 3
    account.look(daemon.state_directory)
    daemon.start()
    daemon.wait_log("is up")
    for stream in EVERY + LATEST:
        world.witness.wait(f"lamp1/{stream}", since=since)
    account.wait_paid()
    arm.send_again(world.witness, replies, since)
    daemon.stop()
    time.sleep(0.1)  # the witness reads the last of it
    account.check()
    account.check_ledger(daemon.state_directory)
    assert not daemon.grep("damaged"), daemon.log()


@pytest.mark.parametrize("durability", ["strict", "batched"])
def test_nothing_that_was_committed_is_lost_by_a_power_cut(make_world, make_daemon, connect, tmp_path, durability):
    choice = random.Random(f"{SEED} {durability}")
    moves = tmp_path / "moves"
    moves.touch()
    world = make_world(durability=durability, more=ARM.format(path=moves))
    arm = Arm(connect(world.broker), lambda: moves.read_text().split())
    recording, truth = record(world, arm, tmp_path / "recording", choice)
    for n, cut in enumerate(recording.cuts(CUTS or 36, choice)):
        state = tmp_path / f"cut{n}"
        try:
            cut.read(state)
            truth.check(cut, Stored(state), durability)
            if n % GOES_ON_EVERY == GOES_ON_EVERY - 1:
                go_on(world, arm, make_daemon, cut, state, truth.replies(cut))
        except BaseException:
            print(f"seed {SEED}, {durability}: {cut}, at {cut.said}")
            raise
        shutil.rmtree(state)
    assert truth.replies(cut), "there was nothing to be carried out twice"
