# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Nothing that was committed is lost, whatever is killed or cut, at whatever time.

    NIGHTLIGHT_CRASH_ROUNDS=200 NIGHTLIGHT_CRASH_SEED=1 pytest tests/integration/test_crash.py

goes through so many rounds in each mode of durability, from that seed; unset, some forty in all
from a seed of the hour's own, which a failure tells.
"""

import os
import random
import time

import pytest

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


@pytest.mark.parametrize("durability, rounds", [("batched", 24), ("strict", 10), ("outage", 10)])
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
                world.start_daemon()
        world.settle()
    except BaseException:
        print(f"seed {SEED}, after {len(told)} rounds: {told}")
        raise
    assert world.account.committed
