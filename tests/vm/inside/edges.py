# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Runs in the guest: gives an input line an edge ten times a second and looks how long an output line takes
to follow it.

    edges.py PULL VALUE    # the input's pull and the output's value, files of gpio-sim; until SIGTERM

Writes a line for each edge: "edge", the time since boot, and after how many seconds the output followed, or
"never" after ten. The machine that emulates this one has other work, so it also writes when a CPU stood
still, that is when a program that goes before all others did not run on it: "pause", from when, for how long.
"""

import os
import signal
import sys
import time

PERIOD_SECONDS = 0.1
LOOK_SECONDS = 0.005
LIMIT_SECONDS = 10
PAUSE_SECONDS = 0.01  # less is not worth a line


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def go_first(priority):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def watch_cpu(cpu):
    """In a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    os.sched_setaffinity(0, {cpu})
    go_first(60)
    last = now()
    while True:
        time.sleep(LOOK_SECONDS)
        at = now()
        if at - last > LOOK_SECONDS + PAUSE_SECONDS:
            print(f"pause {last + LOOK_SECONDS:.4f} {at - last - LOOK_SECONDS:.4f}", flush=True)
        last = at


def wait(value_fd, level, begin):
    """After how many seconds the line had that level, or None."""
    while os.pread(value_fd, 1, 0) != level:
        if now() - begin > LIMIT_SECONDS:
            return None
        time.sleep(LOOK_SECONDS)
    return now() - begin


def main(pull, value):
    ends = []
    signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
    watchers = [watch_cpu(cpu) for cpu in os.sched_getaffinity(0)]
    go_first(50)
    pull_fd, value_fd = os.open(pull, os.O_WRONLY), os.open(value, os.O_RDONLY)
    is_high, due = os.pread(value_fd, 1, 0) == b"1", now()
    while not ends:
        is_high, begin = not is_high, now()
        os.pwrite(pull_fd, b"pull-up" if is_high else b"pull-down", 0)
        took = wait(value_fd, b"1" if is_high else b"0", begin)
        print(f"edge {begin:.4f}", "never" if took is None else f"{took:.4f}", flush=True)
        due = max(due + PERIOD_SECONDS, now())
        time.sleep(max(due - now(), 0))
    for pid in watchers:
        os.kill(pid, signal.SIGKILL)


main(*sys.argv[1:])
