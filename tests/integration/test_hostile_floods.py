# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Too much of it: commands at full speed, and messages of any size. It is bounded, and starves nothing.

    NIGHTLIGHT_FLOOD_SECONDS=60 pytest tests/integration/test_hostile_floods.py

says how long a flood in both directions lasts; unset, it is 15 s.
"""

import os
import subprocess
import threading
import time

import pytest

from support import mqtt
from support.family import Memory, is_sanitized
from support.home import NOISE, Books, home, hostile, make_home, make_hostile  # noqa: F401 (fixtures)
from support.hostile import CHUNK, repeated
from support.notify import Manager
from support.wait import holds_for, wait_until

COMMANDS = [b'{"led": true}', b'{"led": false}']
PAIR = b"".join(mqtt.publish(5, "lamp1/commands", text) for text in COMMANDS)

# Sanitizers need some of their own for each piece of memory.
SPARE_MIB = 150 if is_sanitized() else 0


class Publisher:
    """mosquitto_pub -l with the same line over and over, until close()."""

    def __init__(self, port, topic, line):
        argv = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-l"]
        self._popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._chunk = (line + b"\n") * (CHUNK // len(line))
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self):
        try:
            while True:
                self._popen.stdin.write(self._chunk)
        except (OSError, ValueError):
            pass  # it has ended

    def close(self):
        self._popen.kill()
        self._popen.wait(10)
        self._thread.join(10)


@pytest.fixture
def publish_without_end():
    """publish_without_end(port, topic, line): a Publisher."""
    publishers = []
    yield lambda *args: publishers.append(Publisher(*args))
    for publisher in publishers:
        publisher.close()


# Through a real broker, which never waits for a slow reader.
FLOODED = "set_tcp_nodelay true\nmax_queued_messages 20000\nlog_type error\nlog_type warning"
# Beside programs that are not nice: as on a small board. What is left of two cores may be little, so
# these limits are wide; a loop that starves keeps none of them.
NICE = ["nice", "-n", "10"]
REACTION_SEC = WATCHDOG_SEC = 6
STOP_SEC = 10


@pytest.mark.slow
def test_a_flood_of_commands_starves_no_rule_no_watchdog_and_no_stop(
    tmp_path, monkeypatch, start_broker, make_home, publish_without_end
):
    broker = start_broker(FLOODED)
    manager = Manager(tmp_path, watchdog_usec=WATCHDOG_SEC * 1_000_000)
    # To look for leaks takes longer than a stop may, when it is nice.
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    home = make_home(broker, quiet=True, prefix=NICE, env=manager.env)
    try:
        home.start()
        home.daemon.wait_log("connected to")
        begin, reactions = time.monotonic(), []
        for _ in range(2):
            publish_without_end(broker.port, "lamp1/commands", COMMANDS[0])
        home.led.wait("1\n")
        while time.monotonic() - begin < 10:
            reactions.append(reaction(home))
        end = time.monotonic()
        pings = [begin, *(each for each in manager.times("WATCHDOG") if begin < each < end), end]
        home.daemon.popen.terminate()
        status = stopped(home.daemon)
        stop = time.monotonic() - end
    finally:
        home.daemon.kill()
        manager.close()
    longest = max(later - before for before, later in zip(pings, pings[1:]))
    told = f"reactions {reactions}, watchdog after {longest:.1f} s, {status} after {stop:.1f} s"
    assert None not in reactions and longest < WATCHDOG_SEC and status == 0 and stop < STOP_SEC, told


def reaction(home):
    try:
        return round(home.react(within=REACTION_SEC), 2)
    except AssertionError:
        return None


def stopped(daemon):
    try:
        return daemon.popen.wait(15)
    except subprocess.TimeoutExpired:
        return "no end"


@pytest.fixture
def watched(make_home, make_hostile, monkeypatch):
    """watched(settings): a Home at a Hostile broker, and its Memory."""
    memories = []
    # Sanitizers hold back what was freed, which is not what a test wants to know of its memory.
    monkeypatch.setenv("ASAN_OPTIONS", "quarantine_size_mb=8")

    def make(settings):
        home = make_home(make_hostile(), settings=settings, quiet=True).start()
        home.works()
        memories.append(Memory(home.pid))
        return home, memories[-1]

    yield make
    for memory in memories:
        memory.close()


@pytest.mark.slow
def test_commands_at_full_speed_take_bounded_memory(watched):
    home, memory = watched("protocol = 5")
    mark = home.daemon.mark()
    home.broker.send(repeated(PAIR))
    holds_for(home.daemon.alive, 6, home.tail)
    sent = home.broker.newest().sent
    home.broker.calm()
    home.works()
    assert sent > 1 << 20, "a flood"
    assert memory.mib() < 64 + SPARE_MIB, f"{memory.mib():.0f} MiB more"
    said = home.daemon.grep(r"^warning .*(?i:dropped)", mark)
    said = [line for line in said if "command" in line or "message" in line]
    assert 1 <= len(said) <= 3, home.tail()


def huge(level, size):
    """A PUBLISH with a payload of that size, in parts."""
    start = mqtt.text("lamp1/commands") + mqtt.properties(level)
    yield bytes([0x30]) + mqtt.variable(len(start) + size) + start
    part = b"x" * (256 << 10)
    for _ in range(size // len(part)):
        yield part


@pytest.mark.slow
@pytest.mark.parametrize("level, protocol", [(5, "5"), (4, "3.1.1")], ids=["MQTT 5", "MQTT 3.1.1"])
def test_a_payload_of_any_size_takes_bounded_memory(watched, level, protocol):
    home, memory = watched(f"protocol = {protocol}")
    for mib in (20, 200):
        connection = home.broker.wait_subscribed()
        home.broker.send(huge(level, mib << 20), connection)
        home.react_until(
            lambda connection=connection: connection.closed or not connection.wants_to_write(),
            "all to be sent, or the connection to be closed",
            within=2,
        )
        home.broker.cut()  # whether it has borne that or not
        home.works(since=connection.number + 1)
    assert memory.own_mib() < 16, f"{memory.own_mib():.0f} MiB more in the daemon"
    # The connector's memory is limited by the kernel, which sanitizers cannot live with.
    assert is_sanitized() or memory.mib() < 32, f"{memory.mib():.0f} MiB more in all"


def test_mqtt_5_is_told_how_large_a_packet_may_be(home, hostile):
    found = hostile.connects[0].properties.get(mqtt.MAXIMUM_PACKET_SIZE)
    assert found and 256 << 10 <= found[0] <= 2 << 20, hostile.connects[0]


@pytest.mark.parametrize("settings, refused, taken", [
    ("", 512 << 10, 1 << 10),
    ("max_message = 64K", 100 << 10, 1 << 10),
], ids=["by default", "as configured"])  # fmt: skip
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_message_over_max_message_is_refused_and_the_connection_stays(
    make_home, hostile, protocol, settings, refused, taken
):
    home = make_home(hostile, settings=f"protocol = {protocol}\n{settings}").start()
    home.works()
    connection, mark = hostile.newest(), home.daemon.mark()
    for packet_id, size in ((7, refused), (8, taken)):
        text = COMMANDS[home.led.read() == "1\n"].ljust(size)  # spaces behind it are good JSON
        hostile.send(mqtt.publish(connection.level, home.commands(), text, 1, packet_id))
    wait_until(lambda: {7, 8} <= set(connection.ids(mqtt.PUBACK)), "acknowledgements")
    home.works()
    assert hostile.newest() is connection
    assert home.daemon.grep("^warning .*(?i:max_message|larger|too large)", mark), home.tail()


SECONDS = int(os.environ.get("NIGHTLIGHT_FLOOD_SECONDS", 15))
FAST = "10ms"
STREAMS = ("one", "two", "three", "four")


@pytest.mark.slow
def test_a_flood_in_both_directions_loses_nothing_that_was_accepted(make_home, hostile):
    streams = "".join(
        f"[stream {name}]\ntopic = {{id}}/{name}\n" + NOISE.format(name=f"{name}1", interval=FAST, stream=name)
        for name in STREAMS
    )
    home = make_home(hostile, more=streams, quiet=True).start()
    home.works()
    begin, mark = time.monotonic(), len(hostile.arrivals)
    hostile.send(repeated(PAIR))
    home.react_until(lambda: time.monotonic() - begin > SECONDS, "an end", within=2, timeout=SECONDS + 15)
    hostile.calm()
    home.set_interval("1s", was=FAST)  # the last status cannot have what is sampled while it is sent
    Books(home, ("telemetry", *STREAMS)).settle()
    assert len(hostile.arrivals) - mark > 100 * SECONDS, "four streams of 100 messages a second"
