# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device that a hostile broker is let loose on: it has a lamp that it decides on by itself."""

import re
import time

import pytest

from support import configs, mqtt
from support.daemon import CRASH
from support.hostile import Hostile
from support.stored import Account
from support.wait import DEADLINE, wait_until

RULE = """
[rule local]
where = device
when = light < 300
until = light > 320
then = {"lamp": true}
else = {"lamp": false}
"""

# The light's readings are the rule's alone: one is published when it has changed, and may get lost.
LIGHT = """
[stream light]
topic = {id}/light
qos = 0
keep = none
"""

# Two readings are never the same, so a number that is used twice shows.
NOISE = """
[sensor {name}]
driver = sim
wave = noise
min = 0
max = 1
decimals = 9
interval = {interval}
stream = {stream}
"""

OFTEN = "100ms"


def config(port, light, lamp, led, name="lamp1", broker="protocol = 5", more=""):
    """The lamp is the rule's, the led is there to be commanded."""
    return (
        configs.base(port, "device", name, broker=broker)
        + configs.sensor("light", light, "50ms", "stream = light\ndeadband = 1\nmax_silence = 1h")
        + NOISE.format(name="noise", interval=OFTEN, stream="telemetry")
        + configs.actuator("lamp", lamp)
        + configs.actuator("led", led)
        + LIGHT
        + RULE
        + more
    )


class Home:
    """
    settings and more: lines of [broker], and further sections; quiet: commands and telemetry are not
    logged; prefix, env: as of Daemon.
    """

    def __init__(
        self, make_daemon, value, broker, name="lamp1", settings="protocol = 5", more="", quiet=False, **keywords
    ):
        self.broker, self.name = broker, name
        self.light, self.lamp, self.led = (value(f"{name}.{each}") for each in ("light", "lamp", "led"))
        self.light.write(500)
        self.text = config(broker.port, self.light, self.lamp, self.led, name, settings, more)
        if quiet:
            self.text = self.text.replace("[daemon]", "[daemon]\nlog_level = notice")
        self.daemon = make_daemon(name, self.text, **keywords)
        self.daemon.check_log = self._check_log

    def start(self):
        self.daemon.start()
        self.pid = self.daemon.pid
        wait_until(lambda: self._lives(self.lamp.read() == "0\n"), lambda: f"the lamp:\n{self.tail()}")
        return self

    def _check_log(self):
        """As the daemon's, but for warnings: they quote a connector's last words, which may be an assertion's."""
        lines = [line for line in self.daemon.grep(CRASH) if not line.startswith("warning ")]
        reports = [path.read_text(errors="replace") for path in self.daemon.directory.glob("sanitizer.*")]
        assert not lines and not reports, "\n".join([*lines, *reports])

    def set_interval(self, interval, was=OFTEN):
        """How often there is telemetry from the sensors that began with that interval."""
        mark = self.daemon.reload(self.text.replace(f"interval = {was}", f"interval = {interval}"))
        self.daemon.wait_log("configuration reloaded", mark)

    def _lives(self, value):
        """The value, as long as the daemon is the one that was started."""
        if not self.daemon.alive() or self.daemon.pid != self.pid:
            raise AssertionError(f"{self.name} ended ({self.daemon.popen.returncode}):\n{self.tail()}")
        return value

    def react(self, within):
        """Light changes, and the lamp follows within so many seconds; how long it took."""
        dark = self.lamp.read() == "0\n"
        begin = time.monotonic()
        self.light.write(100 if dark else 500)
        wait_until(
            lambda: self._lives(self.lamp.read() == ("1\n" if dark else "0\n")),
            lambda: f"the lamp to follow the light:\n{self.tail()}",
            within,
        )
        return time.monotonic() - begin

    def react_until(self, condition, what, within, timeout=DEADLINE):
        """Goes on reacting until the condition is true."""

        def step():
            self.react(within)
            return condition()

        return wait_until(step, what, timeout)

    def complaints(self, since=0):
        """The warnings and errors of the broker and the way there."""
        lines = self.daemon.grep(r"^(warning|error) ", since)
        return [line for line in lines if re.search("(?i)broker|connect|127.0.0.1", line)]

    def commands(self):
        return f"{self.name}/commands"

    def works(self, since=0):
        """On a connection of the broker's, not one of its first so many: telemetry, and a command is obeyed."""

        def is_subscribed():
            connection = self.broker.newest()
            return connection and connection.number >= since

        mark, topic = len(self.broker.arrivals), f"{self.name}/telemetry"
        wait_until(lambda: self._lives(is_subscribed()), lambda: f"{self.name} to subscribe:\n{self.tail()}")
        wait_until(lambda: self._lives(self.broker.of(topic, mark)), lambda: f"telemetry:\n{self.tail()}")
        wait_until(lambda: self._lives(self._obeys()), lambda: f"a command to be obeyed:\n{self.tail()}")

    def tail(self):
        """The last of the log that is no telemetry."""
        return "\n".join(self.daemon.grep("^(?!info    telemetry)")[-30:])

    def _obeys(self):
        """Whatever was lost before, with a connection or in a flood."""
        wanted = "0\n" if self.led.read() == "1\n" else "1\n"
        connection = self.broker.newest()
        if not connection:
            return False
        text = b'{"led": true}' if wanted == "1\n" else b'{"led": false}'
        self.broker.send(mqtt.publish(connection.level, self.commands(), text), connection)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if self.led.read() == wanted:
                return True
            time.sleep(0.01)
        return False


class Books:
    """The account of what a device has accepted: its broker acknowledges it in the end."""

    def __init__(self, home, streams=("telemetry",)):
        self._home = home
        self._account = Account(home.broker, home.name, every=streams)

    def settle(self, timeout=2 * DEADLINE):
        """The broker behaves by now: what waits arrives, a clean stop, and the books are true."""
        self._home.works()
        self._account.look(self._home.daemon.state_directory)
        self._account.wait_paid(timeout)
        self._home.daemon.stop()
        self._home.broker.wait(f"{self._home.name}/status", lambda status: status["status"] == "offline")
        self._account.check()
        self._account.check_ledger(self._home.daemon.state_directory)


# --- fixtures, for who imports them ---


@pytest.fixture
def make_hostile():
    """make_hostile(...): a Hostile broker."""
    brokers = []

    def make(*args, **kwargs):
        brokers.append(Hostile(*args, **kwargs))
        return brokers[-1]

    yield make
    for broker in brokers:
        broker.close()


@pytest.fixture
def hostile(make_hostile):
    return make_hostile()


@pytest.fixture
def make_home(make_daemon, value):
    """make_home(broker, ...): a Home that is not started yet."""
    return lambda broker, *args, **kwargs: Home(make_daemon, value, broker, *args, **kwargs)


@pytest.fixture
def home(make_home, hostile):
    """A Home at the hostile broker, which behaves so far."""
    home = make_home(hostile).start()
    home.works()
    return home
