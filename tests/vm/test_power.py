# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The plug is pulled: qemu is killed at a random moment while the service samples, drains and carries
out commands, and the disk with its state loses, tears or reorders what it was not told to flush. Then
the machine boots again. The broker is outside of it, as a device's is.

    NIGHTLIGHT_POWER_CUTS=20 NIGHTLIGHT_POWER_SEED=1 pytest tests/vm/test_power.py

cuts the power so often, from that seed; unset, a few times from a seed of the hour's own, which a
failure tells. tests/integration/test_power.py looks at many more cuts, without the machine around them.
"""

import json
import os
import random
import socket
import time

import pytest

from conftest import INSTALLED
from guest.machine import Machine
from support import crash, plug
from support.arm import Arm, replies_in
from support.broker import Broker
from support.fakes import Threaded
from support.peer import Peer
from support.stored import Account, Stored

CUTS = int(os.environ.get("NIGHTLIGHT_POWER_CUTS", 0)) or 2
SEED = int(os.environ.get("NIGHTLIGHT_POWER_SEED", 0)) or int(time.time())

EVERY, LATEST = ("ordered", "live"), ("latest",)
STATE = "/var/lib/nightlightd"
# What qemu's own network calls this machine, and the guest.
HOST, GUEST = "10.0.2.2", "10.0.2.15/24"
# On an emulated CPU, of a busy machine.
LIMIT_SECONDS = 120
WRITES_PER_SECOND = 60
# A move is seen by somebody whose power is not cut.
ARM = """
[actuator arm]
driver = exec
command = /bin/bash -c "echo $0 >/dev/udp/{host}/{port}"
type = number
min = 0
max = 1000000
"""

pytestmark = pytest.mark.skipif(bool(plug.why_not()), reason=plug.why_not())


class Moves(Threaded):
    """Where the arm has said by UDP that it was moved, in order."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._moves = []
        super().__init__()

    def serve(self):
        while not self.over():
            try:
                self._moves.append(int(self._socket.recv(64)))
            except TimeoutError:
                pass
        self._socket.close()

    def __call__(self):
        return list(self._moves)


class Device:
    """A machine of its own, that boots with the service; its state is on a disk that is recorded."""

    def __init__(self, template, work):
        self._template = template
        self._state, self._log = work / "state", work / "log"
        self._state.touch()
        os.truncate(self._state, plug.FILE_SYSTEM_BYTES)
        plug.make_file_system(self._state)
        self.data = self._state.read_bytes()
        self.machine = Machine(template.image, work, self._hardware())

    def _hardware(self):
        """For qemu. The disk is as slow as a memory card, or it would hardly ever have anything to lose."""
        card = {"qom-type": "throttle-group", "id": "card", "limits": {"iops-write": WRITES_PER_SECOND}}
        recorded = {"driver": "blklogwrites", "log-sector-size": plug.SECTOR_BYTES,
                    "file": {"driver": "file", "filename": str(self._state)},
                    "log": {"driver": "file", "filename": str(self._log)}}
        disk = {"driver": "throttle", "node-name": "state", "throttle-group": "card", "file": recorded}
        return ("-object", json.dumps(card), "-blockdev", json.dumps(disk), "-device", "virtio-blk-pci,drive=state",
                "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net")

    def boot(self):
        self._state.write_bytes(self.data)
        self._log.write_bytes(b"")
        self.machine.create_disk(self._template)
        self.machine.start()
        self.machine.run(f"ip addr add {GUEST} dev eth0 && ip link set eth0 up && mountpoint -q {STATE}")

    def pull(self, luck, choice, wait_seconds=0):
        """The end of it, and what the disk happens to hold then. With patience there is something to lose."""
        disk, log, end = plug.Disk(self.data), plug.Log(self._log), time.monotonic() + wait_seconds
        while True:
            for write in log.more():
                disk.take(write)
            if disk.volatile or time.monotonic() >= end:
                break
        self.machine.kill()
        for write in log.more():
            disk.take(write)
        self.data = disk.after_cut(luck, choice)
        return len(disk.volatile)


@pytest.fixture
def line(tmp_path):
    brokers = []

    def start_broker(settings):
        brokers.append(Broker(tmp_path / "broker", settings))
        return brokers[-1].start()

    line = crash.Line(start_broker)
    yield line
    line.close()
    brokers[-1].kill()


@pytest.fixture
def moves():
    moves = Moves()
    yield moves
    moves.close()


@pytest.fixture
def device(vm, line, moves, tmp_path):
    arm = ARM.format(host=HOST, port=moves.port)
    vm.configure(crash.config(line.port, "strict", "200ms", more=arm).replace("127.0.0.1", HOST))
    vm.run(f"mkdir -p {STATE} && echo '/dev/vdb {STATE} ext4' >>/etc/fstab && systemctl enable nightlightd && sync")
    vm.machine.stop()
    device = Device(vm.machine, tmp_path)
    try:
        yield device
    finally:
        if device.machine.process:  # something has failed
            print(device.machine.run("journalctl -b -q -n 200 --no-pager", check=False)[0])
            device.machine.kill()
        vm.machine.start(INSTALLED)


@pytest.fixture
def peer(line):
    peer = Peer(line.broker.port)
    yield peer
    peer.close()


def boot(device, witness, arm):
    """What was done before is not done again; only where the arm was last, or was on its way to, it is set anew."""
    since, n_moves, replies = len(witness.arrivals), len(arm.moves()), replies_in(witness.arrivals)
    device.boot()
    witness.wait("lamp1/status", lambda status: status["status"] == "online", since, timeout=LIMIT_SECONDS)
    arm.send_again(witness, replies, since)
    moves, answered = arm.moves()[n_moves:], [int(name[2:]) for name in replies]
    assert len(moves) <= 1 and min(moves, default=0) >= max(answered, default=0), (moves, answered)


def live(proxy, choice):
    """The network is gone for a while, so that there is something to drain."""
    time.sleep(choice.uniform(0, 2))
    proxy.cut(refuse=True)
    time.sleep(choice.uniform(0.5, 3))
    proxy.mend()
    time.sleep(choice.uniform(0, 2))


def check_kept(account, directory):
    """What has arrived was committed before: it is there."""
    stored = account.look(directory)
    for name in replies_in(account.witness.arrivals):
        assert ("command", name) in stored.records, f"{name} was answered, and is forgotten"
    for stream in EVERY + LATEST:
        seen = {(each.boot, each.seq) for each in account.arrivals(stream)}
        row = stored.streams.get(stream, {"sampled": 0})
        assert stream in LATEST or row["sampled"] >= len(seen), f"{stream}: {len(seen)} were sent, {row}"


def settle(device, account, directory):
    """All is well again: what is owed arrives, and a clean stop leaves true books."""
    for stream in EVERY + LATEST:
        account.witness.wait(f"lamp1/{stream}", since=len(account.witness.arrivals))
    account.wait_paid()
    device.machine.run(f"systemctl stop nightlightd && umount {STATE}")
    device.pull("none", random)
    plug.read_files(device.data, directory)
    account.check()
    account.check_ledger(directory)


def test_nothing_is_lost_and_nothing_done_twice(device, line, peer, moves, tmp_path):
    print(f"seed {SEED}")
    choice = random.Random(SEED)
    account = Account(line.witness, "lamp1", every=EVERY, ordered=("ordered",), latest=LATEST)
    arm = Arm(peer, moves)
    arm.close()
    for n in range(CUTS):
        boot(device, line.witness, arm)
        arm = Arm(peer, moves, arm.next)
        try:
            live(line.proxy, choice)
            luck = choice.choice(plug.LUCKS)
            n_volatile = device.pull(luck, choice, wait_seconds=3)
        finally:
            arm.close()
        time.sleep(0.2)  # what has left the machine arrives
        account.kills += 1
        print(f"cut {n}: {luck} of {n_volatile} kept, {len(line.witness.arrivals)} messages, {len(moves())} moves")
        plug.read_files(device.data, tmp_path / f"cut{n}")
        check_kept(account, tmp_path / f"cut{n}")
    assert replies_in(line.witness.arrivals), "there was nothing to be carried out twice"
    boot(device, line.witness, arm)
    settle(device, account, tmp_path / "end")
