# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Disks that a test takes away from a daemon, and gives back.

    disk = Failing(daemon)      # before the daemon is started
    disk.begin()
    disk.end()                  # before the daemon is stopped by its fixture

state: where the daemon's state can be looked at, also when the daemon has ended; cause: what the daemon
says of the disk, as a pattern, None if it says nothing; delays_a_start: until the end, no daemon comes up.
"""

import errno
import pathlib
import subprocess

import pytest

from support import mounts, preload


class Shimmed:
    """A disk behind tests/diskshim: a file says what happens to it."""

    variable = content = cause = None
    delays_a_start = False

    def __init__(self, daemon):
        self.state = daemon.state_directory
        self._path = daemon.directory / "disk"
        daemon.env |= {"LD_PRELOAD": preload.value("diskshim"), self.variable: str(self._path)}

    def begin(self):
        temporary = self._path.with_name("disk.new")
        temporary.write_text(self.content)
        temporary.rename(self._path)

    def end(self):
        self._path.unlink(missing_ok=True)

    close = end


class Stalled(Shimmed):
    """Whoever writes waits until the end."""

    variable, content = "DISKSHIM_STALL", ""
    delays_a_start = True


class Failing(Shimmed):
    variable, content = "DISKSHIM_FAIL", str(errno.EIO)
    cause = "Input/output error|disk I/O error"


class ReadOnly(Shimmed):
    """As a file system is that the kernel no longer writes to since it has found errors."""

    variable, content = "DISKSHIM_FAIL", str(errno.EROFS)
    cause = "Read-only file system|Input/output error"  # SQLite forgets the errno at times


class Full:
    """A file system of 3 MB, in a mount namespace that outlives the daemon."""

    cause = "No space left on device"
    delays_a_start = False

    def __init__(self, daemon):
        if not mounts.can_be_had():
            pytest.skip("needs root and mount namespaces")
        mount = f"mount -t tmpfs -o size=3M none {daemon.state_directory} && echo && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout.read(1) == b"\n"
        self.state = pathlib.Path(f"/proc/{self._holder.pid}/root{daemon.state_directory}")
        daemon.argv = ["nsenter", f"--target={self._holder.pid}", "--mount", *daemon.argv]

    def begin(self):
        """Again: also what has become free meanwhile."""
        with open(self.state / "filler", "ab", buffering=0) as filler:
            with pytest.raises(OSError):
                while True:
                    filler.write(bytes(4096))

    def end(self):
        (self.state / "filler").unlink(missing_ok=True)

    def close(self):
        self._holder.stdin.close()
        self._holder.wait(10)
