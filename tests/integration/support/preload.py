# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries of the tests' own that stand between a daemon and the C library."""

import pathlib
import subprocess

import pytest

from support.daemon import binary


def path(name):
    """Of the one that was built along with the daemon; without it, the test is skipped."""
    library = pathlib.Path(binary()).parent / f"lib{name}.so"
    if not library.exists():
        pytest.skip(f"{library} is not built")
    return library


def value(name):
    """For LD_PRELOAD. libasan has to come before all others, where the daemon has it."""
    needed = subprocess.run(["ldd", binary()], capture_output=True, text=True).stdout
    sanitizer = [word for word in needed.split() if word.startswith("/") and "libasan" in word]
    return " ".join([*sanitizer, str(path(name))])
