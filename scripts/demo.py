# SPDX-License-Identifier: LGPL-2.1-or-later
"""The nightlight on show: starts a broker and the daemon, draws what they say to each other.

Called by scripts/demo with the daemon's path and its options. What it draws comes over MQTT from a
mosquitto_sub, as anybody's own dashboard would get it.
"""
import collections
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CONFIG = """\
[daemon]
role = combined
id = nightlight

[broker]
host = 127.0.0.1
port = {port}

[sensor light]
{driver}
interval = 1s
decimals = 0

[actuator led_on]
driver = log

[rule nightlight]
when = light < 300
until = light > 320
then = {{"led_on": true}}
else = {{"led_on": false}}
"""
DAY = "driver = sim\nwave = sine\nmin = 0\nmax = 1023\nperiod = {seconds}s"
FILE = "driver = file\npath = {path}"
WIDTH = 64
# Rows on the screen: of the plot, of the conversation, and of all that stands around them.
PLOT_ROWS, CONVERSATION_ROWS, OTHER_ROWS = (6, 12), (4, 10), 8
ONCE_LIMIT_SECONDS = 60
TITLE = "The lamp goes on when the light falls below 300, and off above 320."
CLEAR = "\x1b[2J"


class Show:
    """What has been said, and how it is drawn: a plot above the last lines, or lines only."""

    def __init__(self, hint, live):
        self.hint = hint
        self.live = live
        self.light = collections.deque(maxlen=WIDTH)  # (light, lamp)
        self.lines = collections.deque(maxlen=CONVERSATION_ROWS[1])
        self.lamp = None
        self.has_been_on = False
        self.has_gone_off = False

    def take(self, topic, payload):
        """Takes one message as mosquitto_sub -v printed it."""
        try:
            message = json.loads(payload)
        except ValueError:
            return
        kind = topic.rpartition("/")[2]
        if kind == "telemetry" and "light" in message:
            self.say("device", "server", topic, payload)
            self.light.append((message["light"], self.lamp))
        elif kind == "commands":
            self.say("server", "device", topic, payload)
        elif kind == "state" and isinstance(message.get("led_on"), bool):
            self.set_lamp(message["led_on"])
            self.say("device", "", topic, payload)

    def set_lamp(self, is_on):
        self.has_gone_off |= self.has_been_on and not is_on
        self.has_been_on |= is_on
        self.lamp = is_on

    def say(self, sender, receiver, topic, payload):
        arrow = f"{sender:>6} {'->' if receiver else '  '} {receiver:6}"
        line = f"{time.strftime('%H:%M:%S')}  {arrow}  {topic:22} {payload}"
        self.lines.append(line)
        if self.live:
            self.draw()
        else:
            print(line, flush=True)

    def plot(self, height, width):
        shown = list(self.light)[-width:]
        top = max([1023] + [light for light, _ in shown])
        threshold = int(300 * height / top) + 1
        rows = []
        for row in range(height, 0, -1):
            low = top * (row - 1) / height
            bars = "".join("█" if light > low else " " for light, _ in shown)
            label = {height: f"{top:5.0f}", threshold: "  300"}.get(row, "     ")
            rows.append(f"{label} │{bars}")
        rows.append("      └" + "─" * width)
        lamp = "".join("●" if on else "·" for _, on in shown)
        rows.append(f" lamp  \x1b[33m{lamp}\x1b[0m")
        return rows

    def draw(self):
        """Draws all of it anew, as the terminal may have another size by now."""
        columns, rows = shutil.get_terminal_size()
        n_lines = min(max((rows - OTHER_ROWS) // 2, CONVERSATION_ROWS[0]), CONVERSATION_ROWS[1])
        height = min(max(rows - OTHER_ROWS - n_lines, PLOT_ROWS[0]), PLOT_ROWS[1])
        state = {None: "not known yet", True: "\x1b[33m● on\x1b[0m", False: "· off"}[self.lamp]
        light = f"{self.light[-1][0]:.0f}" if self.light else "-"
        said = list(self.lines)[-n_lines:]
        said += [""] * (n_lines - len(said))
        picture = [TITLE[:columns], "", f"  light {light:>5}     lamp {state}"]
        picture += self.plot(height, min(WIDTH, max(columns - 7, 1)))
        picture += [""] + [line[:columns] for line in said] + ["", self.hint[:columns]]
        # From the top left corner; each row's old rest is erased, and what is below.
        sys.stdout.write("\x1b[H" + "\n".join(f"{row}\x1b[K" for row in picture[:rows]) + "\x1b[J")
        sys.stdout.flush()

    def end(self):
        """Leaves the picture; what follows is below it."""
        if self.live:
            print()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class House:
    """The processes and files of one show; leaving it ends and removes them all."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="nightlight-")
        os.chmod(self.directory, 0o755)  # mosquitto gives up root
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def start(self, command, **options):
        # A session of its own: Ctrl-C is for this program, which ends the others in order.
        process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL,
                                   **options)
        self.processes.append(process)
        return process

    def start_broker(self, port):
        conf = self.write("mosquitto.conf", f"listener {port} 127.0.0.1\nallow_anonymous true\n"
                          "set_tcp_nodelay true\n")
        environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/usr/sbin")
        broker = self.start(["mosquitto", "-c", conf], env=environment,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if broker.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("The broker mosquitto does not start.")


def watch(show, listener, daemon, log, once):
    """Shows until Ctrl-C, or with once until the lamp has gone on and off. Returns an exit code."""
    selector = selectors.DefaultSelector()
    selector.register(listener.stdout, selectors.EVENT_READ)
    end = time.monotonic() + ONCE_LIMIT_SECONDS
    while not (once and show.has_gone_off):
        if daemon.poll() is not None:
            show.end()
            with open(log, encoding="utf-8") as file:
                print(file.read(), file=sys.stderr)
            print("nightlightd has ended; above is what it said.", file=sys.stderr)
            return 1
        if once and time.monotonic() > end:
            show.end()
            print(f"The lamp has not gone on and off within {ONCE_LIMIT_SECONDS} s.",
                  file=sys.stderr)
            return 1
        if selector.select(0.5):
            line = listener.stdout.readline().decode("utf-8", "replace").rstrip("\n")
            topic, _, payload = line.partition(" ")
            if payload:
                show.take(topic, payload)
    show.end()
    print("The lamp went on in the dark, and off in the light.")
    return 0


def main():
    binary, options = sys.argv[1], sys.argv[2:]
    once, from_file = "--once" in options, "--file" in options
    for number in (signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal was closed
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with House() as house:
        port = free_port()
        house.start_broker(port)
        if from_file:
            light = house.write("light", "500\n")
            os.chmod(light, 0o666)
            driver = FILE.format(path=light)
            hint = f"Ctrl-C ends. Try elsewhere: echo 100 > {light}"
        else:
            driver = DAY.format(seconds=20 if once else 60)
            hint = f"Ctrl-C ends. Listen too: mosquitto_sub -p {port} -v -t '#'"
        config = house.write("nightlightd.conf", CONFIG.format(port=port, driver=driver))
        listener = house.start(["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-v",
                                "-t", "nightlight/+"], stdout=subprocess.PIPE, bufsize=0)
        log = house.path("log")
        with open(log, "wb") as out:
            daemon = house.start([binary, "--config", config], stdout=out, stderr=out,
                                 env=dict(os.environ, STATE_DIRECTORY=house.directory))
        show = Show(hint, sys.stdout.isatty())
        if show.live:
            sys.stdout.write(CLEAR)
            show.draw()
        else:
            print(f"{TITLE}\n{hint}", flush=True)
        try:
            return watch(show, listener, daemon, log, once)
        except KeyboardInterrupt:
            print("\nEnded; nothing is left running.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
