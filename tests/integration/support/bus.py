# SPDX-License-Identifier: LGPL-2.1-or-later
"""A system bus of the test's own, with something on it that answers for systemd and logind."""

import pathlib
import sys

from support.broker import plain_env
from support.process import Process
from support.wait import wait_until

FAKE = pathlib.Path(__file__).resolve().parents[1] / "peers/fake_systemd.py"

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""


class Bus:
    """env is what the daemon gets."""

    def __init__(self, directory, can_reboot="yes"):
        directory.mkdir()
        self._socket = directory / "socket"
        config = directory / "bus.conf"
        config.write_text(CONFIG.format(socket=self._socket))
        self.env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self._socket}"}
        argv = ["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}"]
        self.daemon = Process("dbus-daemon", argv, directory / "bus.log", plain_env())
        self.systemd = Process(
            "fake_systemd", [sys.executable, FAKE, can_reboot], directory / "log", plain_env(**self.env)
        )

    def start(self):
        self.daemon.start()
        wait_until(self._socket.exists, lambda: f"the bus:\n{self.daemon.log()}")
        ready = len(self.systemd.grep("^ready$"))
        self.systemd.start()
        self.systemd.wait_log("^ready$", count=ready + 1)
        return self

    def asked(self):
        """What it was asked for, in order."""
        return self.systemd.grep("^(start|reboot) ")

    def kill(self):
        self.systemd.kill()
        self.daemon.kill()
        self._socket.unlink(missing_ok=True)
