# SPDX-License-Identifier: LGPL-2.1-or-later
"""The service manager's end of sd_notify(3), with a store of file descriptors."""

import os
import socket
import threading
import time
from collections import namedtuple

from support.wait import DEADLINE, wait_until

Note = namedtuple("Note", "fields received")


class Manager:
    """
    env is what the daemon gets; notes what it said, each a dict of one datagram; store the
    descriptors that it gave away, by name.
    """

    def __init__(self, directory, watchdog_usec=None):
        self.path = str(directory / "notify")
        self.notes = []
        self.store = {}
        self.env = {"NOTIFY_SOCKET": self.path}
        if watchdog_usec:
            self.env["WATCHDOG_USEC"] = str(watchdog_usec)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.05)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while not self._over.is_set():
            try:
                text, fds, _, _ = socket.recv_fds(self._socket, 65536, 16)
            except socket.timeout:
                continue
            lines = text.decode().splitlines()
            fields = dict(line.split("=", 1) for line in lines if "=" in line)
            self._keep(fields, fds)
            self.notes.append(Note(fields, time.monotonic()))

    def _keep(self, fields, fds):
        name = fields.get("FDNAME", "stored")
        if "FDSTOREREMOVE" in fields and name in self.store:
            os.close(self.store.pop(name))
        for fd in fds:
            self.store[name] = fd

    def mark(self):
        return len(self.notes)

    def values(self, name, since=0):
        return [note.fields[name] for note in self.notes[since:] if name in note.fields]

    def times(self, name, since=0):
        return [note.received for note in self.notes[since:] if name in note.fields]

    def wait(self, name, wanted=None, since=0, count=1, timeout=DEADLINE):
        """The count-th value of that name which contains wanted."""

        def matching():
            values = [value for value in self.values(name, since) if not wanted or wanted in value]
            return values[count - 1] if len(values) >= count else None

        return wait_until(
            matching,
            lambda: f"{name} {wanted or ''}; there are {[note.fields for note in self.notes[since:]]}",
            timeout,
        )

    def close(self):
        self._over.set()
        self._thread.join(10)
        self._socket.close()
        for fd in self.store.values():
            os.close(fd)
        os.unlink(self.path)
