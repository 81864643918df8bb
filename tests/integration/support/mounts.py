# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that are full or read-only, in a mount namespace of the daemon's own."""

import os
import pathlib
import subprocess


def can_be_had():
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


def prefix(command):
    """Goes before a daemon's arguments: the command is run first, in the namespace."""
    return ["unshare", "--mount", "sh", "-c", f'{command} || exit 99; exec "$@"', "sh"]


def within(daemon, *command):
    """Runs a command in the daemon's namespace."""
    subprocess.run(["nsenter", "--target", str(daemon.pid), "--mount", *map(str, command)], check=True)


def seen_by(daemon, path):
    """What the daemon has at that path."""
    return pathlib.Path(f"/proc/{daemon.pid}/root{path}")
