# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmarks share: a broker of their own, the daemon, and the table of figures.

What is measured of a process is measured of all its descendants with it.
"""
import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(TOP, "build/plain/nightlightd")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_broker(directory, settings="set_tcp_nodelay true\n"):
    port = free_port()
    path = os.path.join(directory, "mosquitto.conf")
    with open(path, "w") as conf:
        conf.write(f"listener {port} 127.0.0.1\nallow_anonymous true\n{settings}")
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin")
    broker = subprocess.Popen(["mosquitto", "-c", path], env=environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return broker, port
        except OSError:
            time.sleep(0.05)
    raise SystemExit("mosquitto does not start")


def start_daemon(binary, config, directory, stderr=subprocess.DEVNULL):
    """Starts it; returns the process and the milliseconds to READY."""
    path = os.path.join(directory, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(10)
        environment = dict(os.environ, NOTIFY_SOCKET=path, STATE_DIRECTORY=directory)
        begin = time.monotonic()
        daemon = subprocess.Popen([binary, "--config", config], env=environment, stderr=stderr)
        try:
            while b"READY=1" not in notify.recv(4096).split(b"\n"):
                pass
        except BaseException:
            stop(daemon)
            os.unlink(path)
            raise
        ready_ms = (time.monotonic() - begin) * 1000
    os.unlink(path)
    return daemon, ready_ms


def stop(process):
    """Ends it. A descendant that is still there a second later is killed, and reported."""
    descendants = []
    if process.poll() is None:
        for pid in processes(process.pid)[1:]:
            try:
                descendants.append((pid, os.pidfd_open(pid)))
            except ProcessLookupError:
                pass  # it has just ended
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid, fd in descendants:
        if not select.select([fd], [], [], 1)[0]:
            print(f"process {pid} outlived its parent: killed", file=sys.stderr)
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.close(fd)


def processes(pid):
    """The process and all its descendants, the process first."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat:
                state, parent = stat.read().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if state != "Z":
            children.setdefault(int(parent), []).append(int(entry))
    tree = [pid]
    for parent in tree:
        tree += children.get(parent, [])
    return tree


def cpu_and_wakeups(pid):
    """Nanoseconds on a CPU and voluntary context switches, over all threads and descendants there
    are. The figures of those that end are gone: compare processes() before and after."""
    nanoseconds = switches = 0
    for process in processes(pid):
        for task in _tasks(process):
            try:
                with open(f"/proc/{process}/task/{task}/schedstat") as schedstat:
                    nanoseconds += int(schedstat.read().split()[0])
                switches += status_number(f"{process}/task/{task}", "voluntary_ctxt_switches")
            except (FileNotFoundError, ProcessLookupError):
                pass  # a worker that has just ended
    return nanoseconds, switches


def _tasks(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return []


def pss_bytes(pid):
    """Resident memory; what several processes share counts in parts. A second daemon that runs at
    the same time makes it look smaller."""
    total = 0
    for process in processes(pid):
        with open(f"/proc/{process}/smaps_rollup") as rollup:
            total += int(re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.M).group(1)) * 1024
    return total


def resident_mb(pid, key):
    """VmRSS or VmHWM; what several processes share counts in each."""
    return sum(status_number(process, key) for process in processes(pid)) / 1024


def status_number(task, key):
    """A number in /proc/TASK/status."""
    with open(f"/proc/{task}/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    raise KeyError(key)


class Table:
    """Figures beside their goals, one a line; some have none."""

    def __init__(self):
        self.n_missed = 0

    def header(self, title):
        print(f"\n{title:52}{'measured':>12}{'goal':>12}", flush=True)

    def row(self, name, value, at_most=None, at_least=None, note="", digits=2):
        verdict, goal = "", ""
        if at_most is not None or at_least is not None:
            is_met = value <= at_most if at_most is not None else value >= at_least
            self.n_missed += not is_met
            verdict = "ok" if is_met else "MISSED"
            goal = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}"
        print(f"{name:52}{value:12,.{digits}f}{goal:>12}  {verdict:6} {note}".rstrip(), flush=True)


def spread(values, digits=2):
    return f"{min(values):,.{digits}f} to {max(values):,.{digits}f}"


def median(values):
    return statistics.median(values)
