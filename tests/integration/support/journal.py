# SPDX-License-Identifier: LGPL-2.1-or-later
"""systemd-journald's end of its native protocol, in a mount namespace of the daemon's own."""

import os
import socket
import subprocess

from support.wait import wait_until

# /run is the daemon's own, with this journal in it; standard error counts as connected to it.
ENTER = """
mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal || exit 1
JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"
"""


def can_be_had():
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


class Journal:
    """prefix goes before the daemon's arguments; entries() are dicts, as far as they were read."""

    def __init__(self, directory):
        directory.mkdir()
        self.prefix = ["unshare", "--mount", "sh", "-c", ENTER, directory]
        self._entries = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = str(directory / "socket")
        self._socket.bind(self._path)
        self._socket.setblocking(False)

    def entries(self):
        try:
            while True:
                lines = self._socket.recv(65536).decode().splitlines()
                self._entries.append(dict(line.split("=", 1) for line in lines))
        except BlockingIOError:
            return self._entries

    def fill(self):
        """Until it takes no more, from anybody."""
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                try:
                    sender.sendto(b"MESSAGE=filler\n", self._path)
                except BlockingIOError:
                    return

    def wait(self, text):
        """The first entry whose message contains text."""
        return wait_until(
            lambda: next((entry for entry in self.entries() if text in entry["MESSAGE"]), None),
            lambda: f"{text!r} in the journal; there is {self._entries}",
        )

    def close(self):
        self._socket.close()
