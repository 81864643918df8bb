# SPDX-License-Identifier: LGPL-2.1-or-later
"""
kill -9 at every place where state changes: each KILL_POINT of the source in turn. Needs a daemon
that was built with -DKILL_POINTS=ON.
"""

import re
import shutil
import signal

import pytest

from support import configs, stored
from support.bus import Bus
from support.crash import config
from support.daemon import ROOT, Value, binary
from support.wait import DEADLINE, wait_until

VARIABLE = "NIGHTLIGHT_KILL_POINT"

with open(binary(), "rb") as program:
    pytestmark = pytest.mark.skipif(
        VARIABLE.encode() not in program.read(), reason="the daemon was built without -DKILL_POINTS=ON"
    )


def points_of(pattern):
    return sorted(
        point
        for path in (ROOT / "src").glob(pattern)
        if path.name != "killpoint.h"
        for point in re.findall(r'KILL_POINT\("([^"]*)"\)', path.read_text())
    )


SERVERS = points_of("server/*.[ch]")
POINTS = points_of("*/*.[ch]")


# --- what brings a daemon by the points --------------------------------------------------------------


def wait_live(world):
    """A message; or the daemon has come by the point already, on the way to it."""
    wait_until(lambda: world.witness.of("lamp1/live") or not world.daemon.alive(), "a message")


def live(_world):
    """It connects, drains what it finds, publishes."""


def outage(world):
    wait_live(world)
    world.proxy.cut(refuse=True)


def unacknowledged(world):
    """What is written and not acknowledged is synced by itself after commit_interval."""
    wait_live(world)
    world.proxy.swallow_acks()


def stop(world):
    world.wait_up()
    world.daemon.signal(signal.SIGTERM)


def drain_and_stop(world):
    """The file shrinks when little is left in it, or at the end: killed then, it says no more."""
    daemon = world.daemon
    wait_until(lambda: not daemon.alive() or daemon.grep("back after"), daemon.log, 2 * DEADLINE)
    if daemon.alive():
        daemon.signal(signal.SIGTERM)


SCENARIOS = {
    "came-back": outage,
    "evict": outage,
    "sync": unacknowledged,
    "synced": unacknowledged,
    "quiesce": stop,
    "close": stop,
    "closed": stop,
    "mark": stop,
    "marked": stop,
    "shrink": drain_and_stop,
}


# They take a log or a file of some size.
FILLED = ("checkpoint", "checkpointed", "shrink")


def prepare(state, point):
    """What the daemon finds at its start."""
    if point.startswith("migrate"):
        stored.make_older(state)
    elif point.startswith("salvage"):
        stored.damage(state, "boot")
    elif point in FILLED:
        stored.fill(state, "live", 4000, '{"live1": %d, "text": "' + "x" * 500 + '"}')


@pytest.fixture(scope="module")
def backlog(tmp_path_factory):
    """The state of a daemon that was never connected and stopped cleanly; filled by the first test."""
    return tmp_path_factory.mktemp("backlog") / "state"


def make_backlog(world, directory):
    if directory.exists():
        return
    world.proxy.cut(refuse=True)
    world.start_daemon()
    world.wait_up()
    wait_until(
        lambda: len(stored.Stored(world.daemon.state_directory, checks=False).messages) > 30,
        "what waits to be on disk",
    )
    world.stop_daemon()
    (world.daemon.state_directory / "reserve").unlink()
    shutil.copytree(world.daemon.state_directory, directory)
    world.proxy.mend()


# Passed with a command alone: they have tests of their own.
COMMANDS = {"action-begun", "action-recorded", "carried-out", "strict-stored"}
OTHERS = COMMANDS.union(SERVERS)

# Some are passed often: not only the first time is of interest.
AGAIN = [(point, 5) for point in ("acknowledged", "handed-over", "job-commit", "job-committed", "job-put")]


@pytest.mark.parametrize("point, nth", [(point, 1) for point in POINTS if point not in OTHERS] + AGAIN)
def test_nothing_is_lost_by_a_kill_at(make_world, backlog, point, nth):
    world = make_world()
    state = world.daemon.state_directory
    make_backlog(world, backlog)
    shutil.rmtree(state)
    shutil.copytree(backlog, state)
    prepare(state, point)
    world.account.look(state if point in FILLED else backlog)
    if point == "shrink":  # what is shrunk is empty, and stays so where nothing is measured
        world.daemon.configure(config(world.port, measures=[]))
    world.daemon.env[VARIABLE] = f"{point}:{nth}"
    world.start_daemon()
    SCENARIOS.get(point, live)(world)
    assert world.daemon.wait_exit(2 * DEADLINE) == -signal.SIGKILL, "the point was never passed"
    del world.daemon.env[VARIABLE]
    world.account.kills += 1
    world.account.loses_runs = point.startswith("salvage")
    if not point.startswith("salvage"):
        world.account.look(state)
    world.proxy.mend()
    world.daemon.configure(config(world.port))
    world.start_daemon()
    world.settle()
    assert point.startswith("salvage") == (state / "queue.db.damaged").exists()


def test_every_kill_point_stands_once():
    assert COMMANDS < set(POINTS) and len(POINTS) == len(set(POINTS))


# --- commands ----------------------------------------------------------------------------------------

GOOD = "[action good]\nunit = good.service\n"


class Obeying:
    """A device with an actuator that writes down each move, and an action, on a bus of its own."""

    def __init__(self, broker, make_daemon, connect, path):
        self._moves = path / "moves"
        self._moves.touch()
        self.bus = Bus(path / "bus").start()
        self.peer = connect(broker, "lamp1/#")
        actuator = f'[actuator arm]\ndriver = exec\ntype = string\ncommand = sh -c "echo $1 >> {self._moves}" sh\n'
        self.daemon = make_daemon("lamp1", configs.base(broker.port, "device") + actuator + GOOD, env=self.bus.env)
        self.said = 0  # messages before the last start

    def start(self):
        self.said = self.peer.mark()
        self.daemon.start()
        self.peer.wait("lamp1/status", lambda status: status["status"] == "online", self.said)

    def killed_at(self, point, command):
        """Whether it was written down that the command was carried out."""
        self.daemon.env[VARIABLE] = point
        self.start()
        self.peer.publish("lamp1/commands", command)
        assert self.daemon.wait_exit() == -signal.SIGKILL, "the point was never passed"
        del self.daemon.env[VARIABLE]
        assert not self.peer.received("lamp1/replies")
        return ("command", "a1") in stored.Stored(self.daemon.state_directory).records

    def reply(self, command):
        """To a command that is sent (again) in this run."""
        count = len(self.peer.received("lamp1/replies")) + 1
        self.peer.publish("lamp1/commands", command)
        return self.peer.wait("lamp1/replies", count=count)

    def moves(self):
        return self._moves.read_text().split()


@pytest.fixture
def obeying(broker, make_daemon, connect, tmp_path):
    obeying = Obeying(broker, make_daemon, connect, tmp_path)
    yield obeying
    obeying.bus.kill()


UP = {"$id": "a1", "arm": "up"}
ACT = {"$id": "a1", "$action": "good"}
ONCE = ["start good.service replace"]


def test_what_was_set_and_not_written_down_is_set_again(obeying):
    assert not obeying.killed_at("carried-out", UP)
    assert obeying.moves() == ["up"]
    obeying.start()
    reply = obeying.reply(UP)
    assert reply["status"] == "done"
    moves = obeying.moves()
    assert len(moves) > 1 and set(moves) == {"up"}
    assert obeying.reply(UP) == reply and obeying.moves() == moves


def test_what_was_written_down_and_not_replied_moves_nothing(obeying):
    assert obeying.killed_at("strict-stored", UP)
    obeying.start()
    reply = obeying.peer.wait("lamp1/replies")  # unasked
    assert reply["$id"] == "a1" and reply["status"] == "done"
    obeying.peer.wait("lamp1/state", {"arm": "up"}, obeying.said)
    moves = obeying.moves()  # its start has set it to what it was
    assert obeying.reply(UP) == reply and obeying.moves() == moves


def test_an_action_that_was_not_written_down_has_not_begun(obeying):
    assert not obeying.killed_at("action-begun", ACT)
    assert not obeying.bus.asked()
    obeying.start()
    assert obeying.reply(ACT)["status"] == "done"
    assert obeying.bus.asked() == ONCE


@pytest.mark.parametrize("point, asked", [("action-recorded", []), ("carried-out", ONCE)])
def test_an_action_whose_end_is_not_known_is_not_begun_again(obeying, point, asked):
    assert obeying.killed_at(point, ACT)
    obeying.start()
    reply = obeying.reply(ACT)
    assert reply["status"] == "failed" and "not begun again" in reply["reason"]
    assert obeying.reply(ACT) == reply
    assert obeying.bus.asked() == asked
    assert obeying.reply({**ACT, "$id": "a2"})["status"] == "done"


def test_an_action_whose_end_was_written_down_is_answered_with_it(obeying):
    assert obeying.killed_at("strict-stored", ACT)
    obeying.start()
    reply = obeying.peer.wait("lamp1/replies")
    assert reply["$id"] == "a1" and reply["status"] == "done"
    assert obeying.reply(ACT) == reply
    assert obeying.bus.asked() == ONCE


# --- a group's command -------------------------------------------------------------------------------

GROUP_RULE = """
[rule floodlight]
scope = group
when = median(light) < 300
min_devices = 2
delivery = latest
then = {"led_on": true}
"""


@pytest.fixture
def make_lamp(broker, start_daemon, tmp_path):
    """A device by day; returns it, its light and what its lamp is set to."""

    def make(name):
        light, led = Value(tmp_path / f"{name}-light", 999), Value(tmp_path / f"{name}-led")
        return start_daemon(name, configs.device(broker.port, light, led, name=name)), light, led

    return make


# The replies are written down behind the publication.
@pytest.mark.parametrize("point", SERVERS + ["group-flush:2"])
def test_a_groups_command_is_done_once_by_each_when_the_server_is_killed_at(
    point, broker, connect, make_daemon, make_lamp
):
    witness = connect(broker, "#")
    server = make_daemon("server1", configs.server(broker.port, rule=GROUP_RULE))
    server.env[VARIABLE] = point
    server.start()
    lamps = {name: make_lamp(name) for name in ("lamp1", "lamp2", "lamp3")}
    for name in lamps:
        server.wait_log(f"telemetry from {name}")
    absent = lamps["lamp3"][0]
    absent.stop()
    for _, light, _ in lamps.values():
        light.write(1)
    if point != "group-end":  # that comes with the last reply
        assert server.wait_exit(2 * DEADLINE) == -signal.SIGKILL, "the point was never passed"
    else:
        lamps["lamp1"][2].wait("1\n")
    absent.start()
    assert server.wait_exit(2 * DEADLINE) == -signal.SIGKILL, "the point was never passed"
    del server.env[VARIABLE]
    server.start()
    for _, _, led in lamps.values():
        led.wait("1\n", 2 * DEADLINE)
    server.wait_log("devices have done it", timeout=2 * DEADLINE)
    wait_until(
        lambda: not any(space == "issued" for space, _ in records_of(server)), lambda: records_of(server)
    )
    for name in lamps:  # an $id that came twice was done once: the journal repeats the reply
        replies = {}
        for reply in witness.objects(f"{name}/replies"):
            assert reply["status"] == "done"
            assert replies.setdefault(reply["$id"], reply) == reply
        assert len(replies) <= 2, "a group decides at most once in each of the server's lives"


def records_of(daemon):
    return stored.Stored(daemon.state_directory, checks=False).records
