# SPDX-License-Identifier: LGPL-2.1-or-later
"""Several servers for one fleet: shared telemetry, one of them killed, and what each decides for."""

import pytest

from support import configs

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
