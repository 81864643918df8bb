# SPDX-License-Identifier: LGPL-2.1-or-later
"""What becomes of telemetry in an outage, as a user has configured it."""

import json
import re
import time

import pytest

from support import configs, crash
from support.stored import ENDS, Stored
from support.wait import holds_for, wait_until

TELEMETRY = "lamp1/telemetry"


def config(port, light, more="", interval="100ms", sensor=""):
    return crash.base(port) + configs.sensor("light", light, interval, sensor) + more


def cut(line, daemon):
    """Breaks the connection, until line.proxy.mend()."""
    mark = daemon.mark()
    line.proxy.cut(refuse=True)
    daemon.wait_log("connection to the broker lost", mark)


def is_on_disk(daemon, text):
    messages = Stored(daemon.state_directory).messages
    return any(text in payload for payload in messages.values())


def queue(daemon, light, values):
    """Has each value sampled and put on disk, in turn."""
    for value in values:
        light.write(value)
        text = json.dumps({"light": value}).encode()
        wait_until(lambda: is_on_disk(daemon, text), f"{text} on disk")


def lights(arrivals):
    """The values without the repetitions of a sensor that is read again and again."""
    values = [json.loads(each.payload)["light"] for each in arrivals]
    return [value for n, value in enumerate(values) if n == 0 or value != values[n - 1]]


def test_telemetry_of_an_outage_comes_afterwards_in_order_with_its_time(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2, 3, 4])
    light.write(5)
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message == {"light": 5})

    # What was on its way when the line broke comes once more.
    arrivals = line.witness.of(TELEMETRY)
    first = {each.seq: each for each in reversed(arrivals)}
    assert sorted(first) == list(range(1, len(first) + 1))
    assert lights(first[seq] for seq in sorted(first)) == [1, 2, 3, 4, 5]
    assert all(each.time and re.fullmatch("[0-9a-f]{32}", each.boot) for each in arrivals)
    late = [each for each in arrivals if json.loads(each.payload)["light"] in (2, 3)]
    times = [json.loads(each.payload).get("time", each.time) for each in late]
    assert late and times == sorted(times) == [each.time for each in late]


def test_what_is_late_says_when_it_was_and_goes_to_the_backlog(line, start_daemon, value):
    light = value("light", 1)
    topics = "[topics]\nbacklog = {id}/backlog\n"
    daemon = start_daemon("lamp1", config(line.port, light, topics))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2])
    holds_for(daemon.alive, 2.2, "what is older than two seconds is late")
    light.write(3)
    line.proxy.mend()
    late = json.loads(line.witness.wait("lamp1/backlog", lambda message: message["light"] == 2).payload)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", late["time"])
    line.witness.wait(TELEMETRY, lambda message: message == {"light": 3})
    assert all("time" not in message for message in line.witness.objects(TELEMETRY))


def test_the_log_tells_what_an_outage_came_to(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2, 3])
    mark = daemon.mark()
    line.proxy.mend()
    said = daemon.wait_log("back after", mark)[0]
    sent = re.search(r"lamp1: back after [\d.]+ m?s: (\d+) sent, 0 lost$", said)
    assert sent and int(sent.group(1)) >= 2, said


def test_an_outage_of_the_daemon_s_own_loses_nothing_either(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2, 3])
    daemon.stop()
    light.write(4)
    line.proxy.mend()
    daemon.start()
    for number in (4, 2, 3):  # what is fresh may come first
        line.witness.wait(TELEMETRY, lambda message, number=number: message["light"] == number)


@pytest.mark.parametrize("keep, arrives", [("latest", [4]), ("none", [])])
def test_keep_decides_what_of_an_outage_arrives(line, start_daemon, value, keep, arrives):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light, f"[stream telemetry]\nkeep = {keep}\n"))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    for number in (2, 3, 4):
        light.write(number)
        daemon.wait_log(f'"light": {number}}}')
    mark = len(line.witness.arrivals)
    light.write(5)
    daemon.wait_log('"light": 5}')
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message["light"] == 5)
    between = {message["light"] for message in line.witness.objects(TELEMETRY, mark)} - {1, 5}
    assert not between, "5 replaces what came before it"
    end = "merged" if keep == "latest" else "dropped"
    line.witness.wait(
        "lamp1/status", lambda status: status.get("streams", {}).get("telemetry", {}).get(end, 0) >= 3, mark
    )


def test_what_is_older_than_max_age_expires(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light, "[stream telemetry]\nmax_age = 1s\n"))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2])
    light.write(3)
    holds_for(daemon.alive, 1.5, "2 is too old")
    mark = len(line.witness.arrivals)
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message["light"] == 3, mark)
    line.witness.wait("lamp1/status", lambda status: "streams" in status, mark)
    daemon.stop()
    assert 2 not in {message["light"] for message in line.witness.objects(TELEMETRY, mark)}
    status = line.witness.objects("lamp1/status")[-1]
    assert status["streams"]["telemetry"]["expired"] >= 1


@pytest.mark.parametrize("when_full", ["drop-oldest", "drop-newest"])
def test_max_messages_bounds_the_queue(line, start_daemon, value, when_full):
    light = value("light", 1)
    policy = f"[stream telemetry]\nmax_messages = 3\nwhen_full = {when_full}\n"
    daemon = start_daemon("lamp1", config(line.port, light, policy, "400ms"))
    line.witness.wait(TELEMETRY)
    holds_for(daemon.alive, 0.2, "the acknowledgement is on its way")
    cut(line, daemon)
    mark, logged = len(line.witness.arrivals), daemon.mark()
    for number in range(2, 8):
        light.write(number)
        daemon.wait_log(f'"light": {number}}}', logged)
    # The first of them may still be a 1.
    waited = [int(each.split('"light": ')[1].split("}")[0]) for each in daemon.grep('"light": ', logged)]
    kept = waited[-3:] if when_full == "drop-oldest" else waited[:3]
    light.write(8)
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message["light"] == 8, mark)
    numbers = [message["light"] for message in line.witness.objects(TELEMETRY, mark)]
    assert sorted(set(numbers) - {1, 8}) == sorted(set(kept) - {1})
    daemon.wait_log("stream telemetry: max_messages is reached")
    line.witness.wait("lamp1/status", lambda status: status.get("dropped", 0) >= 3, mark)


def test_the_higher_priority_is_drained_first(line, start_daemon, value):
    light = value("light", 1)
    streams = (
        "[stream alarm]\ntopic = {id}/alarm\npriority = 10\n"
        + configs.sensor("smoke", light, "100ms", "stream = alarm")
        + "[queue]\ndrain_rate = 200\n"
    )
    daemon = start_daemon("lamp1", config(line.port, light, streams))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2, 3])
    holds_for(daemon.alive, 1, "a backlog")
    mark, logged = len(line.witness.arrivals), daemon.mark()
    line.proxy.mend()
    daemon.wait_log("back after", logged, timeout=30)  # a drain rate begins within ten seconds
    # Fresh ones, which say no time, go at once, whatever waits.
    late = [each.topic for each in line.witness.arrivals[mark:] if b'"time"' in each.payload]
    assert set(late) == {"lamp1/alarm", TELEMETRY}
    assert late == sorted(late), "alarms before telemetry"


def test_a_drain_rate_leaves_the_line_to_what_is_fresh(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light, "[queue]\ndrain_rate = 20\n", "50ms"))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2])
    holds_for(daemon.alive, 2, "a backlog")
    light.write(3)
    daemon.wait_log('"light": 3}')
    mark, logged = len(line.witness.arrivals), daemon.mark()
    line.proxy.mend()
    daemon.wait_log("back after", logged, timeout=30)
    arrivals = line.witness.of(TELEMETRY, mark)
    late = [each.received for each in arrivals if "time" in json.loads(each.payload)]
    fresh = [each.received for each in arrivals if "time" not in json.loads(each.payload)]
    assert len(late) >= 30
    assert 12 < (len(late) - 1) / (late[-1] - late[0]) < 25, "messages a second"
    assert len([received for received in fresh if received < late[-1]]) > 20


def test_the_status_accounts_for_every_sample(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light, sensor="deadband = 5"))
    line.witness.wait(TELEMETRY)
    for number in (20, 40, 60):
        light.write(number)
        line.witness.wait(TELEMETRY, lambda message: message["light"] == number)
    holds_for(daemon.alive, 0.5, "readings within the deadband")
    daemon.stop()
    status = line.witness.wait("lamp1/status", lambda status: status["status"] == "offline")
    stream = json.loads(status.payload)["streams"]["telemetry"]
    waiting = stream["queued"] + stream["in_flight"]
    assert stream["sampled"] == sum(stream[end] for end in ENDS) + waiting
    assert stream["acked"] >= 3 and stream["filtered"] >= 3


def test_a_reload_leaves_the_queue_alone(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light))
    line.witness.wait(TELEMETRY)
    cut(line, daemon)
    queue(daemon, light, [2, 3])
    changed = "[queue]\ncommit_interval = 2s\n[stream telemetry]\nmax_messages = 1000\n"
    mark = daemon.reload(config(line.port, light, changed, "150ms"))
    daemon.wait_log("configuration reloaded", mark)
    queue(daemon, light, [4])
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message["light"] == 4)
    assert {2, 3, 4} <= {message["light"] for message in line.witness.objects(TELEMETRY)}


def test_a_stream_that_is_gone_is_still_drained(line, start_daemon, value):
    light = value("light", 1)
    stream = "[stream old]\ntopic = {id}/old\n"
    sensor = "stream = old"
    daemon = start_daemon("lamp1", config(line.port, light, stream, sensor=sensor))
    line.witness.wait("lamp1/old")
    cut(line, daemon)
    queue(daemon, light, [2])
    daemon.stop()
    daemon.configure(config(line.port, light))
    light.write(3)
    line.proxy.mend()
    mark = len(line.witness.arrivals)
    daemon.start()
    wait_until(
        lambda: [each for each in line.witness.arrivals[mark:] if b'"light": 2' in each.payload],
        "what waited in the stream that is gone",
    )


# --- durability --------------------------------------------------------------------------------------


def test_outage_writes_nothing_while_all_is_well(line, start_daemon, value):
    light = value("light", 1)
    daemon = start_daemon("lamp1", config(line.port, light, "[queue]\ndurability = outage\n", "50ms"))
    line.witness.wait(TELEMETRY)

    def look():
        files = sorted(daemon.state_directory.iterdir())
        return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    time.sleep(1.5)  # what the start brings is written
    before, mark = look(), len(line.witness.arrivals)
    line.witness.wait(TELEMETRY, since=mark, count=40)
    assert look() == before

    cut(line, daemon)
    queue(daemon, light, [2])
    assert look() != before
    line.proxy.mend()
    line.witness.wait(TELEMETRY, lambda message: message["light"] == 2)
