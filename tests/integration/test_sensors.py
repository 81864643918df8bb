# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sampling as it arrives at the broker: shape, pace, filters, and sensors that fail."""

import os
import signal
import stat
import time

import pytest

from support import configs
from support.wait import DEADLINE, holds_for, wait_until

TELEMETRY = "lamp1/telemetry"


@pytest.fixture
def start(broker, start_daemon, connect):
    """start(sections): the daemon in the device role, and a peer that hears all."""

    def make(*sections, more=""):
        peer = connect(broker, "#")
        daemon = start_daemon("lamp1", configs.base(broker.port, "device") + "".join(sections) + more)
        peer.wait("lamp1/status", lambda status: status["status"] == "online")
        return daemon, peer

    return make


def settle(peer):
    """Until what connecting brings has come: all sensors are published once more then."""
    count = None
    while count != peer.mark():
        count = peer.mark()
        time.sleep(0.3)


def test_sensors_that_are_due_together_come_in_one_message(start, value):
    _, peer = start(
        configs.sensor("light", value("light", 250)),
        configs.sensor("heat", value("heat", 21.4)),
        configs.sensor("slow", value("slow", 7), "400ms"),
    )
    peer.wait(TELEMETRY, {"light": 250, "heat": 21.4, "slow": 7})
    peer.wait(TELEMETRY, {"light": 250, "heat": 21.4})
    mark = peer.mark()
    peer.wait(TELEMETRY, since=mark, count=20)
    objects = peer.objects(TELEMETRY, mark)
    assert all({"light", "heat"} <= set(each) for each in objects), objects
    assert 3 <= len([each for each in objects if "slow" in each]) <= 7


@pytest.mark.parametrize(
    "text,payload",
    [("21.4", b"21.4"), ("250", b"250"), ("-0.001", b"-0.001"), ("1e3", b"1000"), ("0.1", b"0.1")],
)
def test_numbers_are_written_as_they_are(start, value, text, payload):
    _, peer = start(configs.sensor("light", value("light", text)))
    message = peer.wait_raw(TELEMETRY)
    assert payload in message.payload
    assert len(message.payload) < 30


def test_scale_offset_and_decimals(start, value):
    heat = value("heat", 21456)
    _, peer = start(configs.sensor("heat", heat, more="scale = 0.001\noffset = 0.5\ndecimals = 1"))
    assert b"22.0" in peer.wait_raw(TELEMETRY).payload
    heat.write(-21456)
    peer.wait(TELEMETRY, {"heat": -21.0})


def test_a_json_file_gives_the_member_that_is_asked_for(start, value):
    weather = value("weather", '{"main": {"temp": 21.5}, "temp": 3}')
    _, peer = start(configs.sensor("heat", weather, more="json = temp"))
    peer.wait(TELEMETRY, {"heat": 3})


def test_a_failing_sensor_costs_only_its_own_key(start, value):
    light, heat = value("light", 250), value("heat", 21)
    daemon, peer = start(configs.sensor("light", light), configs.sensor("heat", heat))
    peer.wait(TELEMETRY, {"light": 250, "heat": 21})
    mark = daemon.mark()
    light.path.unlink()
    (line, *_) = daemon.wait_log(r"^(warning|error) .*light", mark)
    assert str(light) in line or "No such file" in line
    peer.wait(TELEMETRY, {"heat": 21}, count=5)
    light.write(251)
    daemon.wait_log(r"^notice .*light", mark)
    peer.wait(TELEMETRY, {"light": 251, "heat": 21})
    assert len(daemon.grep(r"^(warning|error) .*light", mark)) == 1, daemon.log(mark)


def test_a_sensor_that_is_missing_at_the_start_appears_later(start, value):
    light, heat = value("light"), value("heat", 21)
    daemon, peer = start(configs.sensor("light", light), configs.sensor("heat", heat))
    peer.wait(TELEMETRY, {"heat": 21})
    light.write(250)
    peer.wait(TELEMETRY, {"light": 250, "heat": 21})


@pytest.mark.parametrize("text", ["", "dark", "12 13", "nan", "inf", "1e999", "0x10", "12\0", "x" * 100_000])
def test_a_file_that_holds_no_number_is_a_failed_reading(start, value, text):
    light = value("light", 250)
    daemon, peer = start(configs.sensor("light", light), configs.sensor("heat", value("heat", 21)))
    peer.wait(TELEMETRY, {"light": 250, "heat": 21})
    mark = peer.mark()
    light.write(text)
    daemon.wait_log(r"^(warning|error) .*light")
    peer.wait(TELEMETRY, {"heat": 21}, mark)
    light.write(251)
    peer.wait(TELEMETRY, {"light": 251, "heat": 21})


def test_a_reading_out_of_its_valid_range_is_lost_and_logged_once(start, value):
    heat = value("heat", 21)
    daemon, peer = start(
        configs.sensor("heat", heat, more="valid_min = -40\nvalid_max = 84.9"),
        configs.sensor("light", value("light", 250)),
    )
    peer.wait(TELEMETRY, {"heat": 21, "light": 250})
    mark = daemon.mark()
    heat.write(85)  # what a DS18B20 says when it has lost power
    daemon.wait_log(r"^(warning|error) .*heat.*85", mark)
    peer.wait(TELEMETRY, {"light": 250}, count=5)
    heat.write(22)
    peer.wait(TELEMETRY, {"heat": 22, "light": 250})
    daemon.wait_log(r"^notice .*heat", mark)
    assert len(daemon.grep(r"^(warning|error) .*heat", mark)) == 1, daemon.log(mark)
    assert not [each for each in peer.objects(TELEMETRY) if each.get("heat") == 85]


def test_within_the_deadband_nothing_is_sent(start, value):
    heat = value("heat", 21)
    _, peer = start(configs.sensor("heat", heat, "50ms", more="deadband = 0.5"))
    peer.wait(TELEMETRY, {"heat": 21})
    settle(peer)
    mark = peer.mark()
    heat.write(21.4)
    holds_for(lambda: not peer.received(TELEMETRY, mark), 0.5, "within the deadband")
    heat.write(21.6)
    peer.wait(TELEMETRY, {"heat": 21.6})
    assert len(peer.received(TELEMETRY, mark)) == 1


def test_a_value_that_was_dropped_is_told_once_the_broker_is_back(start, broker, value):
    """The deadband is about what the others know, and they never heard of it."""
    heat = value("heat", 21)
    daemon, peer = start(configs.sensor("heat", heat, "50ms", more="deadband = 0.5"))
    peer.wait(TELEMETRY, {"heat": 21})
    mark = daemon.mark()
    broker.stop()
    daemon.wait_log("^warning .*(connect|broker)", mark)
    heat.write(30)
    holds_for(daemon.alive, 0.5, "some samples are taken and dropped")
    mark = broker.mark()
    broker.start()
    # In the broker's log: the peer may be back later than the daemon, whose message is not retained.
    wait_until(lambda: broker.grep("Received PUBLISH from lamp1 .*'lamp1/telemetry'", mark), "the value")


def test_silence_has_its_limit(start, value):
    _, peer = start(configs.sensor("heat", value("heat", 21), "50ms", more="deadband = 0.5\nmax_silence = 500ms"))
    peer.wait(TELEMETRY, count=7)
    # The first two may be one before and one at the connection.
    times = [message.received for message in peer.received(TELEMETRY)][2:7]
    assert all(0.35 < after - before < 1.0 for before, after in zip(times[:4], times[1:5])), times


def test_the_median_leaves_an_outlier_out(start, value):
    light = value("light", 10)
    _, peer = start(configs.sensor("light", light, "400ms", "sample_interval = 20ms\naggregate = median"))
    peer.wait(TELEMETRY, {"light": 10})
    mark = peer.mark()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        light.write(9000)
        wait_a_sample()
        light.write(10)
        for _ in range(5):
            wait_a_sample()
    medians = {each["light"] for each in peer.objects(TELEMETRY, mark)}
    assert medians == {10}


def wait_a_sample():
    time.sleep(0.02)  # the sampling interval itself: there is nothing to wait for


@pytest.mark.parametrize("aggregate,low,high", [("max", 90, 90), ("min", 10, 10), ("mean", 10.001, 89.999)])
def test_aggregates_of_an_interval(start, value, aggregate, low, high):
    light = value("light", 10)
    _, peer = start(configs.sensor("light", light, "600ms", f"sample_interval = 20ms\naggregate = {aggregate}"))
    peer.wait(TELEMETRY, count=1)
    mark = peer.mark()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for reading in (10, 90):
            light.write(reading)
            for _ in range(3):
                wait_a_sample()
    values = [each["light"] for each in peer.objects(TELEMETRY, mark)][1:]
    assert values
    assert all(low <= each <= high for each in values), values


def script(tmp_path, name, body):
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def exec_sensor(name, command, more=""):
    return f"[sensor {name}]\ndriver = exec\ncommand = {command}\ninterval = 100ms\n{more}\n"


def test_an_exec_sensor_is_what_its_program_prints(start, tmp_path):
    program = script(tmp_path, "program", 'echo "$1$2"')
    _, peer = start(exec_sensor("light", f"{program} 4 '2'"))
    peer.wait(TELEMETRY, {"light": 42})


def test_a_hanging_program_holds_nobody_up(start, value, tmp_path):
    pids = tmp_path / "pids"
    program = script(tmp_path, "program", f"sleep 1000 & echo $$ $! >> {pids}; wait")
    daemon, peer = start(
        exec_sensor("stuck", program, "timeout = 300ms"), configs.sensor("light", value("light", 250))
    )
    daemon.wait_log(r"^(warning|error) .*stuck")
    mark = peer.mark()
    peer.wait(TELEMETRY, {"light": 250}, mark, count=10, timeout=3)
    started = time.monotonic()
    daemon.stop()
    assert time.monotonic() - started < 2
    try:
        wait_until(lambda: not survivors(pids), lambda: f"{survivors(pids)} to be gone", 5)
    finally:
        for pid in survivors(pids):
            os.kill(int(pid), signal.SIGKILL)


def survivors(pids):
    return [pid for pid in pids.read_text().split() if running(pid)]


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "body",
    ["exit 3", "echo dark", "", "kill -9 $$", "yes 1", "printf '12\\000'"],
    ids=["exit code", "no number", "nothing", "killed", "endless output", "a NUL"],
)
def test_a_failing_program_costs_only_its_own_key(start, value, tmp_path, body):
    program = script(tmp_path, "program", body)
    daemon, peer = start(
        exec_sensor("broken", program, "timeout = 1s"), configs.sensor("light", value("light", 250))
    )
    daemon.wait_log(r"^(warning|error) .*broken")
    peer.wait(TELEMETRY, {"light": 250}, peer.mark(), count=10)
    assert len(daemon.grep(r"^(warning|error) .*broken")) == 1, daemon.log()


def test_an_exec_actuator_gets_the_value(start, tmp_path):
    said = tmp_path / "said"
    program = script(tmp_path, "program", f'echo "$@" > {said}.new; cat >> {said}.new; mv {said}.new {said}')
    _, peer = start(f"[actuator led_on]\ndriver = exec\ncommand = {program}\n")
    peer.publish("lamp1/commands", {"led_on": True})
    wait_until(lambda: said.exists() and "1" in said.read_text(), "the program to be told")
    peer.wait("lamp1/state", {"led_on": True})


def test_sim_waves_run(start):
    waves = "".join(
        f"[sensor {wave}]\ndriver = sim\nwave = {wave}\nmin = 10\nmax = 20\nperiod = 1s\ninterval = 100ms\n"
        for wave in ("constant", "sine", "ramp", "noise")
    )
    _, peer = start(waves)
    peer.wait(TELEMETRY, count=15)
    objects = peer.objects(TELEMETRY)
    for wave in ("sine", "ramp", "noise"):
        values = [each[wave] for each in objects]
        assert len(set(values)) > 3, wave
        assert all(10 <= each <= 20 for each in values), wave
    assert len({each["constant"] for each in objects}) == 1


def test_sensors_of_their_own_topic_come_one_message_each(start, value):
    _, peer = start(
        "[topics]\ntelemetry = {id}/{sensor}\n",
        configs.sensor("light", value("light", 250)),
        configs.sensor("heat", value("heat", 21)),
    )
    peer.wait("lamp1/light", {"light": 250})
    peer.wait("lamp1/heat", {"heat": 21})


def test_a_stream_has_its_own_topic(start, value):
    _, peer = start(
        "[stream alarms]\ntopic = {id}/alarms\nqos = 2\nretain = yes\n",
        configs.sensor("light", value("light", 250)),
        configs.sensor("smoke", value("smoke", 1), more="stream = alarms"),
    )
    peer.wait("lamp1/alarms", {"smoke": 1})
    peer.wait(TELEMETRY, {"light": 250})
    assert not [each for each in peer.objects(TELEMETRY) if "smoke" in each]


def test_a_hundred_sensors_come_in_one_message(start, value):
    readings = {f"s{i}": i for i in range(100)}
    _, peer = start(*[configs.sensor(name, value(name, i), "500ms") for name, i in readings.items()])
    peer.wait(TELEMETRY, readings)


def test_a_fifo_for_a_file_does_not_hang_the_others(start, value, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    daemon, peer = start(
        configs.sensor("stuck", tmp_path / "fifo"), configs.sensor("light", value("light", 250))
    )
    peer.wait(TELEMETRY, lambda each: each.get("light") == 250, count=5, timeout=DEADLINE)
    started = time.monotonic()
    daemon.stop()
    assert time.monotonic() - started < 2
