# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Several servers for one fleet: shared telemetry, one of them killed, and what each decides for. And what
one server knows after its end.
"""

import json
import random
import time

import pytest

from support import configs
from support.clock import Clock
from support.stored import Stored
from support.wait import wait_until

RULE = """
[rule nightlight]
when = light < 300
until = light > 320
then = {"led_on": true}
else = {"led_on": false}

[server]
share = plant
"""

LAMPS = [f"lamp{i}" for i in range(40)]


class Fleet:
    def __init__(self, broker, start_daemon, connect, n_servers):
        self.peer = connect(broker, "#")
        self.servers = []
        for i in range(n_servers):
            name = f"server{i}"
            self.servers.append(start_daemon(name, configs.server(broker.port, name, RULE)))
            broker.wait_log(f"{name} 1 .*telemetry")  # it has subscribed

    def say(self, lamps, light):
        for lamp in lamps:
            self.peer.publish(f"{lamp}/telemetry", {"light": light})

    def commands(self, lamp):
        return [command["led_on"] for command in self.peer.objects(f"{lamp}/commands")]

    def expect(self, lamps, *commands):
        for lamp in lamps:
            self.peer.wait(f"{lamp}/commands", {"led_on": commands[-1]},
                           count=commands.count(commands[-1]))
        for lamp in lamps:
            assert self.commands(lamp) == list(commands), lamp


@pytest.mark.parametrize("n_servers", [2, 3])
def test_servers_share_a_fleet_and_one_is_killed(broker, start_daemon, connect, n_servers):
    fleet = Fleet(broker, start_daemon, connect, n_servers)
    fleet.say(LAMPS, 100)
    fleet.expect(LAMPS, True)
    for light in (110, 310, 120):  # whoever gets it knows what the others have decided
        fleet.say(LAMPS, light)
    fleet.say(LAMPS, 500)
    fleet.expect(LAMPS, True, False)

    fleet.servers.pop().kill()
    fleet.peer.wait(f"server{n_servers - 1}/status", lambda status: status["status"] == "offline")
    fleet.say(LAMPS, 100)
    fleet.expect(LAMPS, True, False, True)
    newcomers = [f"new{i}" for i in range(40)]
    fleet.say(newcomers, 100)  # each reading is somebody's, so each is answered, once
    fleet.say(newcomers, 105)
    fleet.say(newcomers, 900)
    fleet.expect(newcomers, True, False)
    for server in fleet.servers:  # the work was shared
        assert "command" in server.log()


def settle(peer):
    """Until nobody has said anything for a while: the next reading is no news to a slow server."""
    count = -1
    while count != peer.mark():
        count = peer.mark()
        time.sleep(0.1)


class Shift:
    """Lamps that change sides in step, some of which announce themselves and reply to commands."""

    def __init__(self, peer, name):
        self.peer = peer
        self.lamps = [f"{name}-{i}" for i in range(12)]
        self.answered = set()
        self.said = 0
        self.sides = []
        for lamp in self.lamps[::2]:
            peer.publish(f"{lamp}/status", {"status": "online"}, retain=True)

    def reply(self):
        for lamp in self.lamps[::2]:
            for command in self.peer.objects(f"{lamp}/commands"):
                if command["$id"] not in self.answered:
                    self.answered.add(command["$id"])
                    self.peer.publish(f"{lamp}/replies", {"$id": command["$id"], "status": "done"})

    def turn(self, side, interfere=lambda: None):
        """Readings of one side, some of which a server takes with it when it is killed."""
        self.sides.append(side)
        victim = random.randrange(len(self.lamps) * 2)
        for step in range(4):
            for i, lamp in enumerate(self.lamps):
                if step * len(self.lamps) + i == victim:
                    interfere()
                self.said += 1
                self.peer.publish(f"{lamp}/telemetry", {"light": (100 if side else 500) + self.said / 1000})
            settle(self.peer)
            self.reply()

    def check(self):
        for lamp in self.lamps:
            commands = self.peer.objects(f"{lamp}/commands")
            assert [command["led_on"] for command in commands] == self.sides, lamp
            ids = [command.get("$id") for command in commands]
            assert all(ids) and len(set(ids)) == len(ids) if lamp in self.lamps[::2] else not any(ids)


def telemetry_of(recording):
    return [line for line in recording.read_text().splitlines() if json.loads(line)["topic"].endswith("/telemetry")]


@pytest.mark.slow
@pytest.mark.parametrize("n_servers", [2, 3])
def test_nothing_is_lost_and_nothing_said_twice_over_many_kills(broker, start_daemon, connect, tmp_path, n_servers):
    peer = connect(broker, "#")
    for round_number in range(4):
        begin = broker.mark()
        servers, recordings = [], []
        for i in range(n_servers):
            name = f"s{round_number}-{i}"
            recordings.append(tmp_path / f"{name}.ndjson")
            rule = RULE + f"record = {recordings[-1]}\n"
            servers.append(start_daemon(name, configs.server(broker.port, name, rule)))
            broker.wait_log(f"{name} 1 .*telemetry")
        shift = Shift(peer, f"r{round_number}")
        settle(peer)
        dead = random.randrange(n_servers)
        for side in (True, False):
            shift.turn(side)
        shift.turn(True, servers[dead].kill)
        for side in (False, True, False):
            shift.turn(side)
        shift.check()

        taken = 0
        for i, server in enumerate(servers):
            given = len(broker.grep(rf"Sending PUBLISH to {server.name} \(d0.*/telemetry'", begin))
            taken += given
            assert given > 0
            if i != dead:  # all that the broker has given a survivor has come in
                wait_until(lambda: len(telemetry_of(recordings[i])) == given, "the recording")
        assert taken == shift.said  # each was somebody's
        for i, server in enumerate(servers):
            if i != dead:
                server.stop()


def test_groups_are_divided_between_servers(broker, start_daemon, connect):
    rule = """
[topics]
telemetry = {group}/{id}/telemetry
[rule r]
scope = group
when = median(light) < 300
then = {"led_on": true}
else = {"led_on": false}
[server]
groups = %s
"""
    peer = connect(broker, "#")
    for name, groups in (("server0", "north"), ("server1", "south w*")):
        start_daemon(name, configs.server(broker.port, name, rule % groups))
        broker.wait_log(f"{name} 1 .*telemetry")
    groups = ("north", "south", "west")
    for light, on in ((100, True), (900, False)):
        for group in groups:
            for i in range(3):
                peer.publish(f"{group}/{group}{i}/telemetry", {"light": light})
            peer.wait(f"groups/{group}/commands", {"led_on": on})
    for group in groups:
        assert peer.objects(f"groups/{group}/commands") == [{"led_on": True}, {"led_on": False}]


WINDOW = "[rule r]\nwhen = max(light, 1h) > 500\nthen = {\"led_on\": true}\nelse = {\"led_on\": false}\n"


def test_what_is_known_of_a_fleet_outlives_a_stop(start_broker, start_daemon, connect):
    n = 3000
    broker = start_broker("log_type all\nmax_queued_messages 0")  # a peer that is slow misses nothing
    peer = connect(broker, "+/commands")

    def topics(since):
        return {each.topic for each in peer.messages[since:]}

    for run, light in ((1, 900), (2, 1)):
        mark = peer.mark()
        server = start_daemon("server1", configs.server(broker.port, rule=WINDOW))
        broker.wait_log(r"server1 1 .*telemetry", count=run)
        for i in range(n):
            peer.publish(f"d{i}/telemetry", {"light": light}, wait=i % 200 == 199)
        wait_until(lambda: len(topics(mark)) == n, lambda: f"{len(topics(mark))} devices have a command", 40)
        server.stop()
    assert {each.payload for each in peer.messages[mark:]} == {b'{"led_on": true}'}


def test_of_what_is_known_of_a_fleet_a_kill_costs_five_minutes_at_the_most(broker, make_daemon, connect, tmp_path):
    clock, peer = Clock(tmp_path / "clock"), connect(broker, "+/commands")
    server = make_daemon("server1", configs.server(broker.port, rule=WINDOW), env=clock.env)

    def start():
        mark = broker.mark()
        server.start()
        broker.wait_log(r"server1 1 .*telemetry", mark)

    def is_kept():
        peer.publish("d2/telemetry", {"light": 1})  # wakes it up
        return any(space == "fleet" for space, _ in Stored(server.state_directory, checks=False).records)

    start()
    peer.publish("d1/telemetry", {"light": 900})
    peer.wait("d1/commands", {"led_on": True})
    assert not is_kept()
    clock.let_pass(300)
    wait_until(is_kept, "what is known to be on disk")
    server.kill()
    clock.let_pass(0)  # for the kernel's timers none has passed
    known = peer.mark()
    start()
    mark = server.mark()
    peer.publish("d1/telemetry", {"light": 1})
    server.wait_log("telemetry from d1", mark)
    peer.wait("d1/commands", {"led_on": True}, known)
    said = {each.payload for each in peer.messages[known:] if each.topic == "d1/commands"}
    assert said == {b'{"led_on": true}'}, "a window that began now would say the contrary"
