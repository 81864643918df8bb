# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server sees its commands through: latest, ordered, plain; groups; leases; what is refused."""

import json
import time

import pytest

from support import configs
from support.issuing import World
from support.wait import holds_for

ARM = """
[rule raise]
when = part > 0
then = {"raised": true}
delivery = ordered

[rule grip]
when = part > 0
then = {"gripped": true}
delivery = ordered
"""


def rule(*more, then='{"led_on": true}', otherwise='{"led_on": false}'):
    lines = "\n".join(more)
    return f"[rule r]\nwhen = light < 300\nthen = {then}\nelse = {otherwise}\n{lines}\n"


@pytest.fixture
def make_world(broker, make_daemon, connect):
    return lambda text: World(broker, make_daemon, connect, text)


def test_a_device_without_a_status_is_served_as_ever(make_world):
    world = make_world(rule())
    world.say("lamp1", light=1)
    assert world.command() == {"led_on": True}


def test_a_device_that_has_announced_itself_gets_an_id_and_again_until_it_replies(make_world):
    world = make_world(rule())
    world.status("lamp1")
    world.say("lamp1", light=1)
    command = world.command()
    assert command["led_on"] is True and command["$id"]
    assert world.command(count=2, timeout=9) == command  # 5 s later
    world.reply("lamp1", command)
    holds_for(lambda: len(world.peer.received("lamp1/commands")) == 2, 1, "silence")


def test_the_journal_outlives_kill_9_and_sends_the_same_again(make_world):
    world = make_world(rule("expires = 1h"))
    world.status("lamp1", "offline")
    world.say("other", light=1)
    world.status("lamp1")
    world.say("lamp1", light=1)
    command = world.command()
    world.restart()
    assert world.command(count=2) == command
    world.server.wait_log("1 commands of an earlier run wait for their reply")
    world.reply("lamp1", command)
    world.expect(done=1, open=0)
    mark = world.peer.mark()
    world.restart()
    holds_for(lambda: not world.peer.received("lamp1/commands", since=mark), 1, "silence")


def test_a_device_that_is_offline_gets_it_when_it_is_back(make_world):
    world = make_world(rule("hold = 2s"))
    world.status("lamp1")
    world.say("lamp1", light=1)
    world.reply("lamp1", world.command())
    world.say("lamp1", light=999)
    world.status("lamp1", "offline")
    holds_for(lambda: len(world.peer.received("lamp1/commands")) == 1, 2.5, "silence")
    world.status("lamp1")
    assert world.command(count=2)["led_on"] is False


def test_a_message_of_a_device_says_that_it_is_back(make_world):
    world = make_world(rule())
    world.status("lamp1", "offline")
    world.say("lamp1", light=1)  # late, by the last will of a connection that it has lost
    assert world.command()["led_on"] is True


def test_what_is_out_of_date_is_never_sent_again(make_world):
    world = make_world(rule())
    world.status("lamp1")
    world.say("lamp1", light=1)
    assert world.command()["led_on"] is True
    world.say("lamp1", light=999)
    newest = world.command(count=2)
    assert newest["led_on"] is False
    world.restart()
    assert world.command(count=3) == newest
    world.status("lamp1", "offline")
    world.status("lamp1")
    assert world.command(count=4) == newest
    time.sleep(6)
    assert [command["led_on"] for command in world.peer.objects("lamp1/commands")[2:]] == [False] * len(
        world.peer.objects("lamp1/commands")[2:]
    )


def test_ordered_ones_wait_for_the_reply_across_restarts(make_world):
    world = make_world(ARM)
    world.say("arm1", part=1)
    first = world.command("arm1/commands")
    assert first["raised"] is True
    world.restart()
    assert world.command("arm1/commands", count=2) == first
    world.say("arm1", part=1)  # the rule has decided that in its earlier life
    holds_for(lambda: len(world.peer.received("arm1/commands")) == 2, 1, "silence")
    world.reply("arm1", first)
    second = world.command("arm1/commands", count=3)
    assert second["gripped"] is True
    world.reply("arm1", second)
    world.wait_closed()  # a kill before that asks for the reply again
    world.restart()
    world.say("arm1", part=1)
    holds_for(lambda: len(world.peer.received("arm1/commands")) == 3, 1, "silence")


def test_a_refusal_is_logged_and_counted(make_world):
    world = make_world(rule())
    world.status("lamp1")
    world.say("lamp1", light=1)
    command = world.command()
    world.peer.publish("lamp1/replies", b"\xff{")  # malformed, forged, of another: nothing
    world.peer.publish("lamp1/replies", {"$id": command["$id"], "status": "perhaps"})
    world.peer.publish("lamp1/replies", {"$id": "made up", "status": "done"})
    world.peer.publish("lamp2/replies", {"$id": command["$id"], "status": "done"})
    world.peer.publish("lamp1/replies", json.dumps({"$id": "x" * 70000, "status": "done"}))
    world.reply("lamp1", command, "rejected")
    world.server.wait_log("command .*led_on.* to lamp1: rejected")
    world.peer.wait(
        "server1/status",
        lambda status: status.get("commands", {}).get("rejected") == 1 and status["rejected"] == 3,
    )


def test_an_expired_command_is_never_sent_again(make_world):
    world = make_world(rule("expires = 2s"))
    world.status("lamp1")
    world.say("lamp1", light=1)
    assert world.command()["$expires"] > "2026"
    world.server.wait_log("to lamp1: expired")
    world.status("lamp1", "offline")
    world.status("lamp1")
    holds_for(lambda: len(world.peer.received("lamp1/commands")) == 1, 1, "silence")


def test_a_lease_is_renewed(make_world):
    world = make_world(rule("for = 3s"))
    world.status("lamp1")
    world.say("lamp1", light=1)
    first = world.command()
    assert first["$for"] == "3000ms"
    world.reply("lamp1", first)
    second = world.command(count=2, timeout=2.5)
    assert second["$id"] != first["$id"]


GROUP = "[rule g]\nscope = group\nwhen = median(light) < 300\nthen = {\"led_on\": true}\n"


def test_a_group_is_told_once_and_who_missed_it_on_its_own(make_world):
    world = make_world(GROUP + "min_devices = 3\n")
    for name in ("a", "b", "c"):
        world.status(name)
    for name in ("a", "b", "c"):
        world.say(name, light=1)
    command = world.command("groups/default/commands")
    assert command["led_on"] is True and command["$id"]
    world.reply("a", command)
    world.reply("b", command)
    assert world.command("c/commands", timeout=9) == command
    world.reply("c", command)
    world.server.wait_log("to group default: 3 of 3 devices have done it")


def test_a_group_with_a_plain_device_is_sent_plain_commands(make_world):
    world = make_world(GROUP + "min_devices = 2\n")
    world.status("a")
    for name in ("a", "plain"):
        world.say(name, light=1)
    assert world.command("groups/default/commands") == {"led_on": True}


def test_a_nightlight_of_two_daemons_replies(broker, start_daemon, connect, value):
    light, led = value("light", 1), value("led")
    peer = connect(broker, "#")
    start_daemon("server1", configs.server(broker.port))
    start_daemon("lamp1", configs.device(broker.port, light, led))
    led.wait("1\n")
    command = peer.wait("lamp1/commands", lambda command: "$id" in command)
    reply = peer.wait("lamp1/replies", lambda reply: reply["$id"] == command["$id"])
    assert reply["status"] == "done" and reply["state"] == {"led_on": True}
    light.write(999)
    led.wait("0\n")
    time.sleep(0.5)
    assert len(peer.received("lamp1/commands")) == len(peer.received("lamp1/replies"))
