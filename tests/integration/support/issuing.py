# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server whose devices a test plays itself."""

from support import configs
from support.stored import Stored
from support.wait import wait_until


class World:
    """A server, devices that a test plays itself, and what was said on their topics."""

    def __init__(self, broker, make_daemon, connect, text):
        self.peer = connect(broker, "#")
        self.broker = broker
        self.server = make_daemon("server1", configs.server(broker.port, rule=text)).start()
        self.wait_subscribed()

    def wait_subscribed(self, since=0):
        wait_until(
            lambda: any("+/telemetry" in line for line in self.broker.subscriptions("server1", since)),
            lambda: f"subscriptions: {self.broker.log(since)}",
        )

    def restart(self):
        mark = self.broker.mark()
        self.server.kill()
        self.server.start()
        self.wait_subscribed(mark)

    def status(self, device, status="online"):
        self.peer.publish(f"{device}/status", {"status": status}, retain=True)

    def say(self, device, **readings):
        self.peer.publish(f"{device}/telemetry", readings)

    def command(self, topic="lamp1/commands", count=1, timeout=10, since=0):
        return self.peer.wait(topic, count=count, timeout=timeout, since=since)

    def reply(self, device, command, status="done"):
        self.peer.publish(f"{device}/replies", {"$id": command["$id"], "status": status, "state": {}})

    def wait_closed(self):
        """Until no command is open on disk."""

        def still_open():
            records = Stored(self.server.state_directory, checks=False).records
            return [value for value in records.values() if '"delivery"' in value]

        wait_until(lambda: not still_open(), still_open)

    def expect(self, **counts):
        """Those of the server's status, which it publishes soon when it has refused something."""
        self.peer.publish("other/status", "no status")
        self.peer.wait(
            "server1/status", lambda status: counts.items() <= status.get("commands", {}).items()
        )
