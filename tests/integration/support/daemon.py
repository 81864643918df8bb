# SPDX-License-Identifier: LGPL-2.1-or-later
"""A nightlightd under test: configuration, state and runtime directories and log of its own."""

import os
import pathlib
import re
import signal
import subprocess

from support.broker import plain_env
from support.process import Process
from support.wait import DEADLINE, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]

LEAKS = ROOT / "tests/integration/lsan.supp"
RACES = ROOT / "tests/integration/tsan.supp"

# A sanitizer's or an assertion's last words; none may ever be in a log.
CRASH = r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion"


def binary():
    return os.environ.get("NIGHTLIGHTD") or str(ROOT / "build/plain/nightlightd")


def daemon_env(more, reports=None):
    """reports: where sanitizers write theirs, NAME.PID each; a connector's log is not its parent's."""
    log = f"log_path={reports}" if reports else ""
    options = {
        "ASAN_OPTIONS": log,
        "UBSAN_OPTIONS": log,
        "LSAN_OPTIONS": f"suppressions={LEAKS}:print_suppressions=0",
        "TSAN_OPTIONS": f"suppressions={RACES}",
    }
    for name, value in options.items():
        options[name] = ":".join(filter(None, [os.environ.get(name), value]))
    return plain_env(**options, **more)


class Daemon(Process):
    """prefix: an argument vector that the daemon's is appended to; env: further variables."""

    def __init__(self, directory, config, prefix=(), args=(), env=None):
        self.directory = directory
        self.config_path = directory / "nightlightd.conf"
        self.state_directory = directory / "state"
        runtime_directory = directory / "run"
        for path in (directory, self.state_directory, runtime_directory):
            path.mkdir(parents=True, exist_ok=True)
        self.configure(config)
        super().__init__(
            directory.name,
            [*prefix, binary(), "--config", self.config_path, *args],
            directory / "log",
            daemon_env(
                {
                    "STATE_DIRECTORY": self.state_directory,
                    "RUNTIME_DIRECTORY": runtime_directory,
                    **(env or {}),
                },
                directory / "sanitizer",
            ),
        )

    def configure(self, config):
        self.config_path.write_text(config)

    def reload(self, config=None):
        """SIGHUP, after writing config; returns the log's mark from before."""
        if config is not None:
            self.configure(config)
        mark = self.mark()
        self.signal(signal.SIGHUP)
        return mark

    def stop(self, timeout=DEADLINE):
        """SIGTERM, a clean end and a clean log."""
        if self.popen and self.alive():
            self.popen.send_signal(signal.SIGTERM)
            status = self.wait_exit(timeout)
            assert status == 0, f"{self.name} ended with {status}:\n{self.log()}"
        self.check_log()

    def check_log(self):
        assert not self.grep(CRASH), self.log()
        for report in self.directory.glob("sanitizer.*"):
            text = report.read_text(errors="replace")
            # A thread that ended while LeakSanitizer stopped it: it takes all of its stack for used.
            assert re.fullmatch(r"(==\d+==Unable to get registers from thread \d+\.\n)+", text), text


def run(*args, config=None, directory=None, env=None, timeout=DEADLINE):
    """Runs the daemon to its end (--check-config and the like); stdout and stderr apart, as text."""
    argv = [binary(), *map(str, args)]
    if config is not None:
        path = directory / "nightlightd.conf"
        path.write_bytes(config if isinstance(config, bytes) else config.encode())
        argv[1:1] = ["--config", str(path)]
    result = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        env=daemon_env(env or {}),
    )
    result.stdout = result.stdout.decode("utf-8", "replace")
    result.stderr = result.stderr.decode("utf-8", "replace")
    assert not re.search(CRASH, result.stderr), result.stderr
    return result


class Value:
    """A small file that one side writes and the other reads: a sensor's number, an actuator."""

    def __init__(self, path, text=None):
        self.path = path
        if text is not None:
            self.write(text)

    def __str__(self):
        return str(self.path)

    def write(self, text):
        """Whole or not at all, as a reader sees it."""
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.write_text(f"{text}\n")
        temporary.rename(self.path)

    def read(self):
        """The bytes as text, None if there is no file."""
        try:
            return self.path.read_text()
        except FileNotFoundError:
            return None

    def identity(self):
        """Changes whenever somebody writes the file, even the same again."""
        stat = self.path.stat()
        return stat.st_ino, stat.st_mtime_ns

    def wait(self, text, timeout=DEADLINE):
        wait_until(
            lambda: self.read() == text,
            lambda: f"{text!r} in {self.path}; it is {self.read()!r}",
            timeout,
        )
