# SPDX-License-Identifier: LGPL-2.1-or-later
"""A mosquitto of the test's own, on a free loopback port."""

import os
import signal
import socket

from support.process import Process, free_port
from support.wait import wait_until


class Broker(Process):
    """settings: further lines of mosquitto.conf, global ones; listener: lines of the listener."""

    def __init__(self, directory, settings="log_type all", listener="allow_anonymous true", host="127.0.0.1"):
        self.host = host
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self._config_path = directory / "mosquitto.conf"
        self.configure(settings, listener)
        argv = [mosquitto(), "-c", self._config_path]
        super().__init__("mosquitto", argv, directory / "log", plain_env())

    def configure(self, settings, listener):
        """For the next start()."""
        self._config_path.write_text(
            "user root\n"  # stays what it is, to read the test's files; of no effect if not root
            "log_dest stderr\n"
            f"{settings}\n"
            f"listener {self.port} {self.host}\n{listener}\n"
        )

    def start(self):
        super().start()
        wait_until(self._answers, lambda: f"mosquitto to listen:\n{self.log()}")
        return self

    def _answers(self):
        assert self.alive(), f"mosquitto has ended:\n{self.log()}"
        try:
            socket.create_connection((self.host, self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.popen and self.alive():
            self.popen.send_signal(signal.SIGTERM)
            self.wait_exit()

    def restart(self):
        self.stop()
        self.start()

    def connects(self, client_id, since=0):
        """The log lines of that client's connections."""
        return self.grep(rf"New client connected from \S+ as {client_id} ", since)

    def subscriptions(self, client_id, since=0):
        """The topic filters that the client has subscribed to."""
        lines = self.grep(rf": {client_id} \d ", since)
        return [line.split(f": {client_id} ", 1)[1].split(" ", 1)[1] for line in lines]


def mosquitto():
    for path in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"):
        if os.access(path, os.X_OK):
            return path
    return "mosquitto"


def plain_env(**more):
    """The environment without what a service manager or a caller may have put there."""
    unwanted = ("JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "RUNTIME_DIRECTORY")  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name not in unwanted}
    env.update({name: str(value) for name, value in more.items()})
    return env
