# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the benchmarks share: a broker of their own, the daemon, and the table of figures."""
import os
import socket
import statistics
import subprocess
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
        while b"READY=1" not in notify.recv(4096).split(b"\n"):
            pass
        ready_ms = (time.monotonic() - begin) * 1000
    os.unlink(path)
    return daemon, ready_ms


def stop(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_and_wakeups(pid):
    """Nanoseconds on a CPU and voluntary context switches, over all threads there are."""
    nanoseconds = switches = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as schedstat:
                nanoseconds += int(schedstat.read().split()[0])
            switches += status_number(f"{pid}/task/{task}", "voluntary_ctxt_switches")
        except (FileNotFoundError, ProcessLookupError):
            pass  # a worker that has just ended
    return nanoseconds, switches


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
