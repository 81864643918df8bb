# SPDX-License-Identifier: LGPL-2.1-or-later
"""The queue on a disk that is full, read-only, damaged, of another time, in use, or that hangs."""

import json
import os
import re
import signal
import sqlite3
import time

import pytest

from support import configs, crash, mounts, preload
from support.clock import Clock
from support.notify import Manager
from support.stored import ENDS, Stored, fill
from support.wait import DEADLINE, holds_for, wait_until

TELEMETRY = "lamp1/telemetry"

LOCAL_RULE = """
[rule local]
where = device
when = light > 500
then = {"led_on": true}
else = {"led_on": false}
"""

needs_mounts = pytest.mark.skipif(not mounts.can_be_had(), reason="needs root and mount namespaces")


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def config(port, light, more="", interval="50ms"):
    return crash.base(port) + configs.sensor("light", light, interval) + more


def cut(line, daemon):
    mark = daemon.mark()
    line.proxy.cut(refuse=True)
    daemon.wait_log("connection to the broker lost", mark)


def wait_light(line, number, since=0):
    line.witness.wait(TELEMETRY, lambda message: message["light"] == number, since)


def wait_is_on_disk(state, number):
    text = json.dumps({"light": number}).encode()
    wait_until(lambda: text in Stored(state, checks=False).messages.values(), f"{text} to be on disk")


def has_no_gap(line):
    seqs = sorted({each.seq for each in line.witness.of(TELEMETRY)})
    return seqs[-1] - seqs[0] + 1 == len(seqs)


# --- full, read-only ---------------------------------------------------------------------------------


@needs_mounts
def test_a_read_only_disk_is_told_and_comes_back_by_itself(manager, line, make_daemon, value):
    light = value("light", 1)
    daemon = make_daemon("lamp1", config(line.port, light), env=manager.env)
    state = daemon.state_directory
    read_only = f"mount --bind {state} {state} && mount -o remount,bind,ro {state}"
    daemon.argv = [*mounts.prefix(read_only), *daemon.argv]
    daemon.start()
    manager.wait("READY", "1")
    assert re.search("NOT ON DISK: .*queue.db: Read-only file system", manager.wait("STATUS", "NOT ON DISK"))
    daemon.wait_log("the queue on disk cannot be written: .*; messages are kept in memory, up to 10000")
    line.witness.wait("lamp1/status", lambda status: "Read-only" in status.get("error", ""))
    wait_light(line, 1)
    cut(line, daemon)
    light.write(2)
    daemon.wait_log('"light": 2}')

    mark = manager.mark()
    mounts.within(daemon, "mount", "-o", "remount,bind,rw", state)
    daemon.wait_log("the queue on disk works again", timeout=40)
    wait_until(
        lambda: [each for each in manager.values("STATUS", mark) if "NOT ON DISK" not in each],
        "a status that all is well",
    )
    wait_is_on_disk(state, 2)
    line.proxy.mend()
    wait_light(line, 2)
    wait_until(lambda: has_no_gap(line), "everything")


@needs_mounts
def test_a_full_disk_is_told_and_comes_back_by_itself(manager, line, make_daemon, value):
    light = value("light", 1)
    daemon = make_daemon("lamp1", config(line.port, light), env=manager.env)
    state = daemon.state_directory
    daemon.argv = [*mounts.prefix(f"mount -t tmpfs -o size=6M none {state}"), *daemon.argv]
    daemon.start()
    wait_light(line, 1)
    inside = mounts.seen_by(daemon, state)
    with open(inside / "filler", "wb", buffering=0) as filler:
        with pytest.raises(OSError):
            while True:
                filler.write(bytes(4096))
    cut(line, daemon)
    light.write(2)
    # The log has its place on the disk already, and takes what there is until it is full.
    manager.wait("STATUS", "NOT ON DISK", timeout=60)
    daemon.wait_log("the queue on disk cannot be written: .*No space left")
    light.write(3)
    daemon.wait_log('"light": 3}')

    (inside / "filler").unlink()
    daemon.wait_log("the queue on disk works again", timeout=60)
    wait_is_on_disk(inside, 3)
    light.write(4)
    line.proxy.mend()
    wait_light(line, 4)
    wait_until(lambda: has_no_gap(line), "everything")
    daemon.stop()


# --- damaged, newer, in use --------------------------------------------------------------------------


def make_queue(line, daemon, count):
    """Has the daemon make its database, and puts messages into it: {"light": 100000}, ..."""
    line.proxy.cut(refuse=True)
    daemon.start()
    daemon.wait_log("is up")
    daemon.stop()
    fill(daemon.state_directory, "telemetry", count, '{"light": 1%06d}')
    line.proxy.mend()


def test_of_a_damaged_queue_all_is_saved_that_can_be_read(line, make_daemon, value):
    daemon = make_daemon("lamp1", config(line.port, value("light", 1)))
    make_queue(line, daemon, 3000)
    path = daemon.state_directory / "queue.db"
    data = bytearray(path.read_bytes())
    at = data.index(b'{"light": 1001500}') // 1024 * 1024
    torn = len(re.findall(rb'"light": 1\d{6}', data[at : at + 1024]))
    assert torn > 5
    data[at : at + 1024] = b"\xee" * 1024
    path.write_bytes(data)

    mark = daemon.mark()
    daemon.start()
    said = daemon.wait_log("the queue on disk was damaged", mark)[0]
    assert f": {torn} messages could not be read and are counted as dropped" in said
    wait_light(line, 1002999)
    numbers = {message["light"] for message in line.witness.objects(TELEMETRY)}
    assert len(numbers & set(range(1000000, 1003000))) == 3000 - torn
    kept_aside = (daemon.state_directory / "queue.db.damaged").read_bytes()
    assert kept_aside[at : at + 1024] == b"\xee" * 1024
    daemon.stop()
    status = line.witness.wait("lamp1/status", lambda status: "streams" in status and "offline" in status.values())
    stream = json.loads(status.payload)["streams"]["telemetry"]
    assert stream["dropped"] == torn
    assert stream["sampled"] == sum(stream[end] for end in ENDS) + stream["queued"] + stream["in_flight"]
    Stored(daemon.state_directory)


def test_a_queue_that_is_no_database_at_all_is_kept_aside(line, make_daemon, value):
    daemon = make_daemon("lamp1", config(line.port, value("light", 7)))
    (daemon.state_directory / "queue.db").write_bytes(b"all my notes\n" * 1000)
    daemon.start()
    wait_light(line, 7)
    assert (daemon.state_directory / "queue.db.damaged").read_bytes().startswith(b"all my notes")


def newer(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    return "queue.db is of version 99, by a newer nightlightd"


def foreign(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA application_id = 5")
    database.close()
    return "queue.db is the database of another program"


def link(path):
    path.rename(path.parent / "other")
    path.symlink_to("queue.db")
    return "queue.db is a symbolic link"


def other_user(path):
    if os.geteuid() != 0:
        pytest.skip("needs root")
    os.chown(path, 1, 1)
    return "queue.db belongs to .*, and nightlightd runs as root: run it as .*, or chown -R root: /"


@pytest.mark.parametrize("change", [newer, foreign, link, other_user], ids=lambda change: change.__name__)
def test_a_queue_that_is_not_ours_is_not_touched_and_all_works_from_memory(
    change, manager, line, make_daemon, value
):
    light, led = value("light", 1), value("led")
    more = configs.actuator("led_on", led) + LOCAL_RULE
    daemon = make_daemon("lamp1", config(line.port, light, more), env=manager.env)
    make_queue(line, daemon, 3)
    path = daemon.state_directory / "queue.db"
    reason = change(path)
    before = None if path.is_symlink() else path.read_bytes()
    mark, told = daemon.mark(), manager.mark()
    daemon.start()
    assert re.search(reason, manager.wait("STATUS", "NOT ON DISK", told))
    assert daemon.wait_log(f"^error .*the queue on disk cannot be written: .*{reason}", mark)
    assert daemon.wait_log(f"what the actuators were last, .* is not known: .*{reason}", mark)
    line.witness.wait("lamp1/status", lambda status: re.search(reason, status.get("error", "")))
    light.write(900)
    led.wait("1\n")
    wait_light(line, 900)
    daemon.stop()
    assert path.is_symlink() if before is None else path.read_bytes() == before


# --- damaged, removed or replaced while it is at work ------------------------------------------------


def backlog(line, daemon, light):
    """What waits on disk, of a daemon that is cut off, and its numbers."""
    wait_light(line, 1)
    cut(line, daemon)
    for number in range(2, 12):
        light.write(number)
        wait_is_on_disk(daemon.state_directory, number)
    return range(2, 12)


def remove(path):
    path.unlink()
    return "was removed"


def replace(path):
    other = path.parent / "other"
    other.write_bytes(b"all my notes")
    other.rename(path)
    return "was replaced by another file"


def shorten(path):
    os.truncate(path, 100)
    return "was damaged"


@pytest.mark.parametrize("change", [remove, replace, shorten], ids=lambda change: change.__name__)
def test_a_queue_that_is_lost_at_work_is_noticed_and_written_anew(change, manager, line, make_daemon, value):
    light = value("light", 1)
    daemon = make_daemon("lamp1", config(line.port, light), env=manager.env).start()
    numbers = backlog(line, daemon, light)
    mark = daemon.mark()
    said = change(daemon.state_directory / "queue.db")
    daemon.wait_log(f"^error .*the queue on disk {said}", mark)
    manager.wait("STATUS", "THE QUEUE ON DISK WAS LOST OR DAMAGED")
    light.write(20)
    wait_is_on_disk(daemon.state_directory, 20)
    daemon.signal(signal.SIGKILL)
    daemon.wait_exit()
    line.proxy.mend()
    daemon.start()
    wait_light(line, 20)
    wait_until(
        lambda: set(numbers) <= {message["light"] for message in line.witness.objects(TELEMETRY)}, "what waited"
    )
    daemon.stop()
    Stored(daemon.state_directory)


def test_an_idle_daemon_notices_within_a_minute(manager, line, make_daemon, value, connect, tmp_path):
    clock, peer = Clock(tmp_path / "clock"), connect(line.broker)
    env = {**manager.env, **clock.env}
    daemon = make_daemon("lamp1", config(line.port, value("light", 1), interval="1h"), env=env).start()

    def wakes_up():
        peer.publish("lamp1/commands", {"nothing": 1})
        return daemon.alive()

    wait_light(line, 1)
    clock.let_pass(15)  # what was delivered is removed, and nothing is to be done any more
    wait_until(
        lambda: wakes_up() and not Stored(daemon.state_directory, checks=False).messages, "an empty queue"
    )
    mark = daemon.mark()
    remove(daemon.state_directory / "queue.db")
    said = "^error .*the queue on disk was removed"
    clock.let_pass(15 + 40)
    holds_for(lambda: wakes_up() and not daemon.grep(said, mark), 0.5, "it does not look all the time")
    clock.let_pass(15 + 60)
    wait_until(lambda: wakes_up() and daemon.grep(said, mark), "a word of it")
    wait_until((daemon.state_directory / "queue.db").exists, "a new file")
    clock.let_pass(0)  # for the kernel's timers none has passed
    daemon.stop()


def test_a_destroyed_first_page_costs_no_message(line, make_daemon, value):
    light = value("light", 1)
    daemon = make_daemon("lamp1", config(line.port, light)).start()
    numbers = backlog(line, daemon, light)
    daemon.stop()
    with open(daemon.state_directory / "queue.db", "r+b") as file:
        file.write(os.urandom(1024))
    line.proxy.mend()
    mark = daemon.mark()
    daemon.start()
    daemon.wait_log("^error .*the queue on disk was damaged: .*0 messages .*queue.db.damaged", mark)
    wait_light(line, max(numbers))
    wait_until(lambda: has_no_gap(line), "everything")
    daemon.stop()


def test_a_second_daemon_leaves_the_first_one_s_queue_alone(manager, line, start_daemon, make_daemon, value):
    light = value("light", 1)
    first = start_daemon("lamp1", config(line.port, light))
    wait_light(line, 1)
    name = {"STATE_DIRECTORY": str(first.state_directory), **manager.env}
    second_config = config(line.port, light).replace("id = lamp1", "id = lamp2")
    second = make_daemon("lamp2", second_config, env=name).start()
    said = manager.wait("STATUS", "NOT ON DISK")
    assert "queue.db is in use by another nightlightd" in said
    first.stop()
    second.wait_log("the queue on disk works again", timeout=40)


# --- a disk that hangs -------------------------------------------------------------------------------


class Disk:
    """hangs() until works(), for a daemon with this env."""

    def __init__(self, directory):
        self._path = directory / "stall"
        self.env = {"LD_PRELOAD": preload.value("diskshim"), "DISKSHIM_STALL": str(self._path)}

    def hangs(self):
        self._path.touch()

    def works(self):
        self._path.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.works()  # before the daemons are stopped


def test_a_disk_that_hangs_delays_no_sample_no_local_rule_and_no_stop(line, make_daemon, value, disk):
    light, led = value("light", 1), value("led")
    more = configs.actuator("led_on", led) + LOCAL_RULE
    daemon = make_daemon("lamp1", config(line.port, light, more), env=disk.env).start()
    wait_light(line, 1)
    led.wait("0\n")
    disk.hangs()
    holds_for(daemon.alive, 1.2, "the store gets stuck")
    for number, lamp in ((900, "1\n"), (100, "0\n"), (901, "1\n")):
        begin = time.monotonic()
        light.write(number)
        led.wait(lamp, 1)
        wait_light(line, number)
        assert time.monotonic() - begin < 1
    begin = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit() == 0
    assert time.monotonic() - begin < 2
    disk.works()
    Stored(daemon.state_directory)


@pytest.mark.slow
def test_a_disk_that_hangs_is_told_and_ends_nothing(tmp_path, line, make_daemon, value, disk):
    """The watchdog is about the main loop: a card that stalls must not restart what works."""
    manager = Manager(tmp_path, watchdog_usec=1_000_000)
    try:
        daemon = make_daemon("lamp1", config(line.port, value("light", 1)), env={**manager.env, **disk.env}).start()
        wait_light(line, 1)
        disk.hangs()
        begin = time.monotonic()
        manager.wait("STATUS", "THE DISK DOES NOT ANSWER", timeout=20)
        assert time.monotonic() - begin > 9, "only after 10 s"
        daemon.wait_log("^error .*the disk of the queue has not answered for 10 s")
        holds_for(daemon.alive, 2, "it goes on")
        mark = manager.mark()
        disk.works()
        daemon.wait_log("^notice .*the disk of the queue answers again")
        manager.wait("STATUS", "connected", mark)
        assert "DISK" not in manager.values("STATUS", mark)[-1]
        pings = [begin, *[each for each in manager.times("WATCHDOG") if each > begin]]
        assert max(later - before for before, later in zip(pings, pings[1:])) < 1, "the watchdog was fed"
    finally:
        disk.works()
        manager.close()


def test_strict_publishes_nothing_that_is_not_on_disk(line, make_daemon, value, disk):
    light = value("light", 1)
    strict = "[queue]\ndurability = strict\n"
    daemon = make_daemon("lamp1", config(line.port, light, strict), env=disk.env).start()
    wait_light(line, 1)
    disk.hangs()
    holds_for(daemon.alive, 0.5, "what is on disk already goes")
    light.write(2)
    daemon.wait_log('"light": 2}')
    mark = len(line.witness.of(TELEMETRY))
    holds_for(lambda: len(line.witness.of(TELEMETRY)) == mark, 1, "nothing arrives")
    disk.works()
    wait_light(line, 2)
    wait_until(lambda: has_no_gap(line), "everything")


def test_the_latest_value_waits_for_a_disk_that_hangs_but_not_for_ever(line, make_daemon, value, disk):
    light = value("light", 1)
    latest = "[stream telemetry]\nkeep = latest\n"
    daemon = make_daemon("lamp1", config(line.port, light, latest), env=disk.env).start()
    wait_light(line, 1)
    disk.hangs()
    holds_for(daemon.alive, 0.2, "the store gets stuck")
    light.write(2)
    wait_until(lambda: line.witness.objects(TELEMETRY)[-1]["light"] == 2, "the value", DEADLINE)
    assert daemon.alive()


def test_a_role_that_a_reload_switches_on_reads_its_records_when_the_disk_works(
    line, make_daemon, value, disk, connect
):
    light = value("light", 1)
    peer = connect(line.broker, "other/#", "lamp1/status")
    server = configs.RULE + "delivery = latest\n"
    device = config(line.port, light)
    daemon = make_daemon("lamp1", configs.server(line.port, "lamp1", rule=server), env=disk.env).start()
    peer.wait("lamp1/status", lambda status: status["status"] == "online")  # it has subscribed
    peer.publish("other/telemetry", {"light": 1})
    command = peer.wait("other/commands")  # nobody replies
    mark = daemon.reload(device)
    daemon.wait_log("configuration reloaded", mark)
    wait_light(line, 1)
    disk.hangs()
    holds_for(daemon.alive, 0.5, "the store gets stuck")
    mark = daemon.reload(device.replace("role = device", "role = combined") + server)
    light.write(2)
    wait_light(line, 2)  # the loop does not wait
    holds_for(lambda: not daemon.grep("configuration reloaded", mark), 0.5, "the reload waits")
    told = peer.mark()
    disk.works()
    daemon.wait_log("configuration reloaded", mark)
    daemon.wait_log("1 commands of an earlier run wait for their reply", mark)
    assert peer.wait("other/commands", since=told) == command
