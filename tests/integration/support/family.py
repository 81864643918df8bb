# SPDX-License-Identifier: LGPL-2.1-or-later
"""A daemon's child processes, and the memory of them all, as /proc has them."""

import os
import pathlib
import re
import subprocess
import threading

from support.daemon import binary
from support.wait import DEADLINE, wait_until


def connector_binary():
    return pathlib.Path(binary()).parent / "connector"


def libraries(path):
    """What ldd(1) says that the program is linked with, through other libraries too."""
    return subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout


def is_sanitized():
    return "libasan" in libraries(binary())


def children(pid):
    """The pids of those that have not ended."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has just ended
        if int(fields[1]) == pid and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return sorted(found)


def wait_children(pid, count=1, other_than=(), timeout=DEADLINE):
    """So many children that are not among those others, and none beside them."""

    def found():
        now = children(pid)
        return now if len(now) == count and not set(now) & set(other_than) else None

    return wait_until(
        found, lambda: f"{count} children of {pid} but {other_than}; it has {children(pid)}", timeout
    )


def exists(pid):
    """False for a zombie that its parent has not taken note of yet, too."""
    try:
        return status(pid)["State"][0] not in "ZX"
    except (OSError, KeyError):
        return False


def status(pid):
    """/proc/PID/status."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))


def kib(pid, field):
    """VmRSS or VmHWM; 0 once it has ended."""
    try:
        return int(status(pid)[field].split()[0])
    except (OSError, KeyError):
        return 0


def variables(pid):
    """Its environment, by name."""
    text = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    return dict(each.split("=", 1) for each in text.split("\0") if "=" in each)


def descriptors(pid):
    """What each open descriptor is."""
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


class Memory:
    """
    Looks at the peaks of a daemon and its children until it is closed. mib() is the largest sum of
    the peaks of those that lived at one time, own_mib() the daemon's alone, both without what they
    had when the watch began.
    """

    def __init__(self, pid):
        self._pid = pid
        self._begin, self._begin_own = self._sum(), kib(pid, "VmHWM")
        self._most = self._most_own = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _sum(self):
        return sum(kib(pid, "VmHWM") for pid in [self._pid, *children(self._pid)])

    def _watch(self):
        while not self._over.wait(0.02):
            self._most = max(self._most, self._sum())
            self._most_own = max(self._most_own, kib(self._pid, "VmHWM"))

    def mib(self):
        return (self._most - self._begin) / 1024

    def own_mib(self):
        return (self._most_own - self._begin_own) / 1024

    def close(self):
        self._over.set()
        self._thread.join(10)
