# SPDX-License-Identifier: LGPL-2.1-or-later
"""Waiting for a condition instead of sleeping: every wait has a deadline and says what it missed."""

import time

# Generous, because two slow cores may run an instrumented build; a passing test never waits it out.
DEADLINE = 15.0


def wait_until(condition, what, timeout=DEADLINE):
    """Calls condition() until it returns something true, which is returned."""
    end = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:g} s in vain for {what() if callable(what) else what}")
        time.sleep(0.01)


def holds_for(condition, seconds, what):
    """Asserts that condition() stays true: the one place where a test has to let time pass."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), what() if callable(what) else what
        time.sleep(0.01)
