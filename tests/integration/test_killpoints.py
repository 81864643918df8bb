# SPDX-License-Identifier: LGPL-2.1-or-later
"""
kill -9 at every place where state changes: each KILL_POINT of the source in turn. Needs a daemon
that was built with -DKILL_POINTS=ON.
"""

import re
import shutil
import signal

import pytest

from support import stored
from support.crash import config
from support.daemon import ROOT, binary
from support.wait import DEADLINE, wait_until

VARIABLE = "NIGHTLIGHT_KILL_POINT"

with open(binary(), "rb") as program:
    pytestmark = pytest.mark.skipif(
        VARIABLE.encode() not in program.read(), reason="the daemon was built without -DKILL_POINTS=ON"
    )

POINTS = sorted(
    point
    for path in (ROOT / "src").glob("*/*.[ch]")
    if path.name != "killpoint.h"
    for point in re.findall(r'KILL_POINT\("([^"]*)"\)', path.read_text())
)


# --- what brings a daemon by the points --------------------------------------------------------------


def live(_world):
    """It connects, drains what it finds, publishes."""


def outage(world):
    world.witness.wait("lamp1/live")
    world.proxy.cut(refuse=True)


def unacknowledged(world):
    """What is written and not acknowledged is synced by itself after commit_interval."""
    world.witness.wait("lamp1/live")
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


# Some are passed often: not only the first time is of interest.
AGAIN = [(point, 5) for point in ("acknowledged", "handed-over", "job-commit", "job-committed", "job-put")]


@pytest.mark.parametrize("point, nth", [(point, 1) for point in POINTS] + AGAIN)
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
    if not point.startswith("salvage"):
        world.account.look(state)
    world.proxy.mend()
    world.daemon.configure(config(world.port))
    world.start_daemon()
    world.settle()
    assert point.startswith("salvage") == (state / "queue.db.damaged").exists()


def test_every_kill_point_stands_once():
    assert POINTS and len(POINTS) == len(set(POINTS))
