# SPDX-License-Identifier: LGPL-2.1-or-later
"""A group's command is on disk with those that have not replied; rules that are gone say nothing."""

import pytest

from support import configs
from support.issuing import World
from support.stored import Stored
from support.wait import holds_for, wait_until

RULE = """
[rule g]
scope = group
when = median(light) < 300
min_devices = 2
then = {"led_on": true}
else = {"led_on": false}
"""
GROUP = "groups/default/commands"
NAMES = ("a", "b", "c")


@pytest.fixture
def make_world(broker, make_daemon, connect):
    return lambda text=RULE: World(broker, make_daemon, connect, text)


def issued(world):
    """The records of commands, as they are on disk."""
    records = Stored(world.server.state_directory, checks=False).records
    return {key: value for (space, key), value in records.items() if space == "issued"}


def open_for(world, command):
    """Who has not replied, as it is on disk."""
    return set(issued(world)[command["$id"] + "/0"].split())


def told(world):
    """A world in which c is offline, and all three have been told; and the command."""
    for name in NAMES:
        world.status(name)
        world.say(name, hello=1)  # it is one of the group
    world.status("c", "offline")
    world.say("a", light=1)
    world.say("b", light=1)
    return world.command(GROUP)


def test_who_has_not_replied_is_known_after_kill_9(make_world):
    world = make_world(RULE.replace("min_devices = 2", "min_devices = 3"))
    for name in NAMES:
        world.status(name)
    for name in NAMES:
        world.say(name, light=1)
    command = world.command(GROUP)
    world.reply("a", command)
    wait_until(lambda: open_for(world, command) == {"b", "c"}, lambda: issued(world))
    world.status("c", "offline")
    world.restart()
    world.server.wait_log("2 commands of an earlier run wait for their reply")
    assert world.command("b/commands") == command
    world.reply("b", command)
    holds_for(lambda: not world.peer.received("c/commands"), 1, "c is offline")
    world.status("c")
    assert world.command("c/commands") == command
    world.reply("c", command)
    world.server.wait_log("to group default: 3 of 3 devices have done it")
    wait_until(lambda: not issued(world), lambda: issued(world))
    mark = world.peer.mark()
    world.restart()
    holds_for(
        lambda: not [topic for topic in (GROUP, "a/commands", "b/commands", "c/commands")
                     if world.peer.received(topic, mark)],
        2,
        "all have done it",
    )
    assert len(world.peer.received(GROUP)) == 1 and not world.peer.received("a/commands")


def test_a_rule_that_begins_anew_repeats_itself_with_the_same_id(make_world):
    world = make_world()
    command = told(world)
    world.reply("a", command)
    wait_until(lambda: open_for(world, command) == {"b", "c"}, lambda: issued(world))
    world.restart()
    world.say("a", light=1)
    world.say("b", light=1)
    assert world.command(GROUP, count=2) == command
    world.reply("a", command)  # from its journal
    world.reply("b", command)
    world.status("c")
    assert world.command("c/commands") == command
    world.reply("c", command)
    wait_until(lambda: not issued(world), lambda: issued(world))
    assert len(world.peer.received(GROUP)) == 2 and len(world.peer.received("c/commands")) == 1


def test_what_a_newer_decision_has_replaced_is_not_sent_after_a_restart(make_world):
    world = make_world()
    command = told(world)
    world.reply("a", command)
    world.reply("b", command)
    world.restart()
    world.say("a", light=999)
    world.say("b", light=999)
    newest = world.command(GROUP, count=2)
    assert newest["led_on"] is False
    world.status("c")
    assert world.command("c/commands") == newest
    assert len(world.peer.received("c/commands")) == 1


def test_a_plain_command_of_a_group_makes_the_one_before_it_out_of_date(make_world):
    world = make_world()
    told(world)
    world.say("plain", hello=1)  # one without a status has joined the group
    world.say("a", light=999)
    world.say("b", light=999)
    assert world.command(GROUP, count=2) == {"led_on": False}
    world.restart()
    world.status("c")
    holds_for(lambda: not world.peer.received("c/commands"), 2, "silence")


def test_a_clean_restart_asks_nobody_that_has_replied(make_world):
    world = make_world()
    command = told(world)
    world.reply("a", command)
    world.reply("b", command)
    wait_until(lambda: world.peer.received("b/replies"), "the replies")
    world.server.stop()
    assert open_for(world, command) == {"c"}
    mark = world.broker.mark()
    world.server.start()
    world.wait_subscribed(mark)
    world.status("c")
    assert world.command("c/commands") == command
    assert not world.peer.received("a/commands") and not world.peer.received("b/commands")


def test_a_rule_that_a_reload_removes_says_nothing_any_more(make_world):
    other = '[rule other]\nwhen = light < 300\nthen = {"fan": true}\n'
    world = make_world(RULE + other)
    told(world)
    world.say("c", light=1)  # by another connection than its last will's
    world.command("c/commands")
    world.status("c", "offline")
    mark = world.peer.mark()
    world.server.reload(configs.server(world.broker.port, rule=other))
    world.server.wait_log("given up, since no rule says so any more: .*led_on")
    wait_until(
        lambda: not any("led_on" in value for value in issued(world).values()), lambda: issued(world)
    )
    world.status("c")
    assert "fan" in world.command("c/commands", since=mark)
    holds_for(lambda: "led_on" not in str(world.peer.objects("c/commands", mark)), 1, "silence")
    assert world.server.log().count("given up, since") == 1


ORDERED = '[rule raise]\nwhen = part > 0\nthen = {"raised": true}\ndelivery = ordered\n'


def test_an_ordered_rule_that_comes_back_decides_anew(make_world):
    world = make_world(ORDERED)
    world.status("arm", "offline")
    world.say("other", part=0)
    world.status("arm")
    world.say("arm", part=1)
    first = world.command("arm/commands")
    world.server.stop()
    world.server.configure(configs.server(world.broker.port, rule=RULE))
    mark = world.broker.mark()
    world.server.start()
    world.server.wait_log("1 commands that wait for their reply are given up")
    world.wait_subscribed(mark)
    world.server.reload(configs.server(world.broker.port, rule=ORDERED))
    world.server.wait_log("configuration reloaded")
    world.say("arm", part=1)
    second = world.peer.wait("arm/commands", lambda command: command["$id"] != first["$id"])
    assert second["raised"] is True
    world.reply("arm", second)
    wait_until(lambda: not issued(world), lambda: issued(world))
