# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network of a test's own, which it can take down while others talk through it. Needs root."""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import threading

CLONE_NEWNET = 0x40000000  # <linux/sched.h>

ADDRESS = "10.9.9.1"


def can_be_had():
    return os.geteuid() == 0 and subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0


def _enter(path):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(path, "rb") as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns({path})")


class Network:
    """A network namespace with nothing but loopback; prefix goes before a daemon's arguments."""

    def __init__(self):
        self._name = f"nightlight-{os.getpid()}"
        run("ip", "netns", "add", self._name)
        self.prefix = ["ip", "netns", "exec", self._name]
        self.up()
        run(*self.prefix, "ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")

    @contextlib.contextmanager
    def within(self):
        """The sockets that are made meanwhile are there, and stay there."""
        keep = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        try:
            _enter(f"/run/netns/{self._name}")
            yield
        finally:
            _enter(f"/proc/self/fd/{keep}")
            os.close(keep)

    def up(self):
        run(*self.prefix, "ip", "link", "set", "lo", "up")

    def down(self):
        """What is sent gets lost, and is sent again for as long as its socket is there."""
        run(*self.prefix, "ip", "link", "set", "lo", "down")

    def close(self):
        run("ip", "netns", "delete", self._name)


def run(*argv):
    subprocess.run(argv, check=True, timeout=10)


# States of include/net/tcp_states.h, as /proc/net/tcp has them.
ESTABLISHED, SYN_SENT = "01", "02"


def clients(port, states, pid="self"):
    """The addresses of those who connect to that port, in the network that the process sees."""
    lines = pathlib.Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {row[1] for row in rows if row[2].endswith(f":{port:04X}") and (not states or row[3] in states)}
