# SPDX-License-Identifier: LGPL-2.1-or-later
"""A subprocess that writes a log file: started, watched, and ended by its own handle."""

import fcntl
import os
import re
import signal
import socket
import subprocess

from support.wait import DEADLINE, wait_until


def free_port():
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listen_options(env, listen):
    """What Popen needs so that descriptors begin at 3. LISTEN_PID is only known afterwards."""
    fds = list(listen.values())
    places = range(3, 3 + len(fds))

    def move():
        copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]  # out of each other's way
        for copy, place in zip(copies, places):
            os.dup2(copy, place)

    return {
        "env": {**(env or os.environ), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(listen)},
        "preexec_fn": move,
        "pass_fds": places,
    }


class Process:
    def __init__(self, name, argv, log_path, env=None):
        self.name = name
        self.argv = [str(argument) for argument in argv]
        self.log_path = log_path
        self.env = env
        self.popen = None

    def start(self, listen=None):
        """listen: descriptors by name that it is handed as sd_listen_fds(3) says."""
        assert self.popen is None or self.popen.poll() is not None, f"{self.name} still runs"
        argv, options = self.argv, {"env": self.env}
        if listen:
            argv = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *argv]
            options = listen_options(self.env, listen)
        with open(self.log_path, "ab") as log:
            self.popen = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        return self

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        assert self.alive(), f"{self.name} has ended:\n{self.log()}"
        self.popen.send_signal(number)

    def wait_exit(self, timeout=DEADLINE):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end in {timeout:g} s:\n{self.log()}") from None

    def kill(self):
        """SIGKILL, and wait for it. Fine if it has ended."""
        if self.popen and self.alive():
            self.popen.send_signal(signal.SIGKILL)
            self.popen.wait(DEADLINE)

    def log(self, since=0):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, "rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def mark(self):
        """Where the log ends now, for the since of what follows."""
        return os.path.getsize(self.log_path)

    def grep(self, pattern, since=0):
        """The log lines that match."""
        return [line for line in self.log(since).splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern, since=0, count=1, timeout=DEADLINE):
        """The first log lines that match, once there are count of them."""

        def found():
            lines = self.grep(pattern, since)
            if len(lines) >= count:
                return lines
            if not self.alive():
                raise AssertionError(
                    f"{self.name} ended ({self.popen.returncode}) before {pattern!r}:\n{self.log()}"
                )
            return None

        return wait_until(
            found,
            lambda: f"{count} of {pattern!r} in the log of {self.name}:\n{self.log(since)}",
            timeout,
        )
