#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
What systemd and logind answer on the system bus, on a bus of the test's own.

    DBUS_SYSTEM_BUS_ADDRESS=... fake_systemd.py CAN-REBOOT

Prints a line for each thing it is asked for. A job of good.service is done soon, one of bad.service
fails, one of long.service never ends, and forbidden.service is refused.
"""

import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

MANAGER = "org.freedesktop.systemd1.Manager"
LOGIN = "org.freedesktop.login1.Manager"


def say(text):
    print(text, flush=True)


class Forbidden(dbus.DBusException):
    _dbus_error_name = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"


class Manager(dbus.service.Object):
    subscribed = False
    last_job = 0

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        self.subscribed = True

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StartUnit(self, unit, mode):
        say(f"start {unit} {mode}")
        if unit == "forbidden.service":
            raise Forbidden("Interactive authentication required.")
        assert self.subscribed, "nobody would hear of its end"
        self.last_job += 1
        path = f"/org/freedesktop/systemd1/job/{self.last_job}"
        results = {"good.service": "done", "bad.service": "failed"}
        if unit in results:
            GLib.timeout_add(200, self.JobRemoved, self.last_job, path, unit, results[unit])
        return dbus.ObjectPath(path)

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, path, unit, result):
        pass


class Login(dbus.service.Object):
    @dbus.service.method(LOGIN, out_signature="s")
    def CanReboot(self):
        return sys.argv[1]

    @dbus.service.method(LOGIN, in_signature="b")
    def Reboot(self, interactive):
        say(f"reboot {bool(interactive)}")


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SystemBus()
    names = [dbus.service.BusName(name, bus) for name in ("org.freedesktop.systemd1", "org.freedesktop.login1")]
    objects = [Manager(bus, "/org/freedesktop/systemd1"), Login(bus, "/org/freedesktop/login1")]
    say("ready")
    GLib.MainLoop().run()
    del names, objects


main()
