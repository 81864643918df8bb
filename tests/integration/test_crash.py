# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Nothing that was committed is lost, whatever is killed or cut, at whatever time.

    NIGHTLIGHT_CRASH_ROUNDS=1000 NIGHTLIGHT_CRASH_SEED=1 pytest tests/integration/test_crash.py

goes through so many rounds in each mode of durability, from that seed. Unset, there are 200 in all,
from a seed of the hour's own; a failure tells it.
"""

import os
import random
import time

import pytest

from support.crash import config
from support.stored import Stored, fill
from support.wait import holds_for, wait_until

ROUNDS = int(os.environ.get("NIGHTLIGHT_CRASH_ROUNDS", 0))
SEED = int(os.environ.get("NIGHTLIGHT_CRASH_SEED", 0)) or int(time.time())


def kill(world, _choice):
    world.kill_daemon()


def kill_while_cut_off(world, choice):
    world.proxy.cut(refuse=True)
    time.sleep(choice.uniform(0.05, 0.5))
    world.kill_daemon()
    time.sleep(choice.uniform(0, 0.3))
    world.proxy.mend()


def cut_in_a_packet(world, choice):
    world.proxy.cut_after(choice.randrange(1, 2000))
    time.sleep(choice.uniform(0.05, 0.4))
    world.proxy.mend()


def freeze(world, choice):
    world.proxy.freeze()
    time.sleep(choice.uniform(0.05, 0.4))
    if choice.random() < 0.5:
        world.proxy.cut()
    world.proxy.mend()


def lose_acknowledgements(world, choice):
    world.proxy.swallow_acks()
    time.sleep(choice.uniform(0.05, 0.5))
    if choice.random() < 0.5:
        world.kill_daemon()
    else:
        world.proxy.cut()
    world.proxy.mend()


def kill_the_broker(world, _choice):
    world.kill_broker()


def stop_and_start(world, choice):
    if choice.random() < 0.5:
        world.proxy.cut(refuse=True)
    world.stop_daemon()
    world.account.look(world.daemon.state_directory)
    world.start_daemon()
    world.proxy.mend()


EVENTS = (
    [kill] * 8 + [kill_while_cut_off] * 4 + [cut_in_a_packet] * 3 + [freeze] * 2
    + [lose_acknowledgements] * 3 + [kill_the_broker] * 2 + [stop_and_start]
)  # fmt: skip


@pytest.mark.parametrize("durability, rounds", [("batched", 100), ("strict", 50), ("outage", 50)])
def test_nothing_that_was_committed_is_lost_in_random_crashes(make_world, durability, rounds):
    choice = random.Random(f"{SEED} {durability}")
    world = make_world(durability=durability)
    world.start_daemon()
    told = []
    try:
        for n in range(ROUNDS or rounds):
            time.sleep(choice.uniform(0.02, 0.5))
            event = choice.choice(EVENTS)
            told.append(event.__name__)
            event(world, choice)
            if n % 20 == 19:
                world.settle()
                for stream in ("ordered", "live"):  # more than is held in memory
                    fill(world.daemon.state_directory, stream, 1500, f'{{"{stream}1": %d}}')
                world.account.look(world.daemon.state_directory)
                world.start_daemon()
        world.settle()
    except BaseException:
        print(f"seed {SEED}, after {len(told)} rounds: {told}")
        raise
    assert world.account.committed


@pytest.mark.parametrize("durability", ["batched", "strict", "outage"])
def test_latest_does_not_go_back_to_what_has_arrived_but_is_still_on_disk(make_world, durability):
    settings = {"durability": durability, "commit_interval": "5s"}
    # Others would take the removal along.
    world = make_world(measures=["latest"], **settings)
    world.start_daemon()
    for _ in range(2):
        world.witness.wait("lamp1/latest", since=len(world.witness.arrivals))
        world.proxy.cut(refuse=True)
        wait_until(
            lambda: Stored(world.daemon.state_directory, checks=False).seqs("latest"), "the latest on disk"
        )
        mark = len(world.witness.arrivals)
        world.proxy.mend()
        world.witness.wait("lamp1/latest", since=mark, count=4)

        # In its next life nothing replaces what is found on disk.
        world.daemon.configure(config(world.port, measures=[], **settings))
        mark = len(world.witness.arrivals)
        world.kill_daemon()
        world.witness.wait("lamp1/status", lambda status: status["status"] == "online", mark)
        holds_for(world.daemon.alive, 0.3, "what there is is sent")
        world.daemon.configure(config(world.port, measures=["latest"], **settings))
        world.kill_daemon()
    world.witness.wait("lamp1/latest", since=len(world.witness.arrivals))
    world.account.check()
    world.stop_daemon()
