# SPDX-License-Identifier: LGPL-2.1-or-later
"""nightlightctl rules: rules over a recording on its own clock, and the recording itself."""

import json
import re
import signal
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from support import clock, configs
from support.daemon import binary, daemon_env
from support.wait import wait_until

START = datetime(2026, 9, 21, 14, 0, tzinfo=timezone.utc)


def ctl(*arguments, **env):
    program = Path(binary()).parent / "nightlightctl"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=20,
                          env=daemon_env(env))


def line(seconds, device="lamp1", kind="telemetry", **payload):
    moment = (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return json.dumps({"tst": moment, "topic": f"{device}/{kind}", "payload": payload})


@pytest.fixture
def house(tmp_path):
    def make(rules, *lines):
        conf, recording = tmp_path / "house.conf", tmp_path / "telemetry.ndjson"
        conf.write_text(rules)
        recording.write_text("".join(each + "\n" for each in lines))
        return conf, recording

    return make


def test_it_prints_what_would_have_been_commanded_when_and_why(house):
    conf, recording = house(
        configs.RULE, line(0, light=500), line(60, light=310), line(120, light=299), "no message",
        line(180, "lamp2", light=100), line(3600, light=330),
    )
    result = ctl("rules", "test", conf, "--replay", recording)
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        '2026-09-21T14:00:00.000Z  lamp1  rule nightlight: {"led_on": false}  because light = 500',
        '2026-09-21T14:02:00.000Z  lamp1  rule nightlight: {"led_on": true}  because light = 299',
        '2026-09-21T14:03:00.000Z  lamp2  rule nightlight: {"led_on": true}  because light = 100',
        '2026-09-21T15:00:00.000Z  lamp1  rule nightlight: {"led_on": false}  because light = 330',
    ]
    assert f"{recording}:4: " in result.stderr
    assert "5 messages, 5 with readings, 1 left out; 4 commands" in result.stderr


def test_time_passes_between_the_lines(house):
    rules = """
[rule watch]
when = age(beat) > 60
then = {"alarm": true}
else = {"alarm": false}
"""
    conf, recording = house(rules, line(0, beat=1), line(600, "lamp2", beat=1))
    lines = ctl("rules", "test", conf, "--replay", recording).stdout.splitlines()
    assert re.match(r'2026-09-21T14:01:0[012]\S+  lamp1  rule watch: {"alarm": true}  because beat = 1',
                    lines[1])


def test_a_group_is_explained(house):
    rules = """
[rule flood]
scope = group
when = median(light) < 300 and max(light) < 1000
min_devices = 3
then = {"led_on": true}
else = {"led_on": false}
"""
    readings = [line(i, f"lamp{i}", light=light) for i, light in enumerate((500, 200, 100, 150))]
    conf, recording = house(rules, *readings)
    result = ctl("rules", "explain", "flood", "--config", conf, "--replay", recording)
    assert result.returncode == 0
    assert result.stdout == (
        '2026-09-21T14:00:02.000Z  group default  rule flood: {"led_on": true}  because '
        "median(light) = 200 (3 devices), max(light) = 500 (3 devices)\n"
    )
    missing = ctl("rules", "explain", "flod", "--config", conf, "--replay", recording)
    assert missing.returncode == 1 and "no rule 'flod'" in missing.stderr
    other = ctl("rules", "explain", "flood", "--for", "north", "--config", conf, "--replay", recording)
    assert other.returncode == 1 and "decided nothing for north" in other.stderr


def test_mistakes_have_their_exit_codes(house, tmp_path):
    conf, recording = house("[rule r]\nwhen = light <\n")
    result = ctl("rules", "test", conf, "--replay", recording)
    assert result.returncode == 78 and f"{conf}:2: rule r.when" in result.stderr
    assert ctl().returncode == 1
    assert "did you mean 'rules'" in ctl("rule").stderr
    assert ctl("rules", "explain").returncode == 1
    assert ctl("rules", "test", "--no-such").returncode == 1
    conf.write_text(configs.RULE)
    assert "expected --replay" in ctl("rules", "test", conf).stderr
    assert ctl("rules", "test", conf, "--replay", tmp_path / "none").returncode == 1
    assert ctl("--version").stdout.startswith("nightlightctl ")
    assert ctl("--help").returncode == 0


def test_the_server_records_what_can_be_replayed(broker, start_daemon, connect, tmp_path):
    recording = tmp_path / "telemetry.ndjson"
    peer = connect(broker, "#")
    text = configs.server(broker.port) + f"\n[server]\nrecord = {recording}\n"
    server = start_daemon("server1", text)
    broker.wait_log(r"server1 1 .*telemetry")
    for light in (500, 100, 110, 900):
        peer.publish("lamp1/telemetry", {"light": light})
    peer.publish("lamp1/telemetry", "no JSON\n")
    peer.wait("lamp1/commands", {"led_on": False}, count=2)
    wait_until(lambda: recording.exists() and recording.read_text().count("telemetry") == 4,
               lambda: recording.read_text() if recording.exists() else "no recording")
    assert oct(recording.stat().st_mode & 0o777) in ("0o640", "0o600")
    result = ctl("rules", "test", server.config_path)
    assert [json.loads(re.search(r"\{.*?\}", each).group()) for each in result.stdout.splitlines()] == [
        {"led_on": False}, {"led_on": True}, {"led_on": False}]


def test_a_stop_writes_the_recording_to_its_end(broker, start_daemon, connect, tmp_path):
    recording = tmp_path / "telemetry.ndjson"
    recording.write_text('{"tst": "2026-11-24T12:34:56.789Z", "topic": "lamp1/tele')  # torn by kill -9
    rule = "[rule last]\nwhen = n > 50\nsend = always\nthen = {\"led_on\": true}\n"
    peer = connect(broker, "#")
    for run in (1, 2):
        since = peer.mark()
        server = start_daemon("server1", configs.server(broker.port, rule=rule) + f"[server]\nrecord = {recording}\n")
        broker.wait_log(r"server1 1 .*telemetry", count=run)
        for n in range(1, 52):
            peer.publish("lamp1/telemetry", {"n": n})
        peer.wait("lamp1/commands", {"led_on": True}, since=since)  # all has come in
        server.stop()
    lines = recording.read_text().splitlines()
    assert lines.pop(0).startswith('{"tst": "2026-11-24T12:34:56.789Z", "topic": "lamp1/tele')  # ended, not glued
    records = [json.loads(line) for line in lines]
    seen = [each["payload"]["n"] for each in records if each["topic"] == "lamp1/telemetry"]
    assert seen == [*range(1, 52)] * 2


@pytest.mark.slow
def test_a_recording_keeps_its_limit(broker, start_daemon, connect, tmp_path):
    recording = tmp_path / "telemetry.ndjson"
    peer = connect(broker, "server1/status")
    start_daemon("server1", configs.server(broker.port) +
                 f"\n[server]\nrecord = {recording}\nrecord_max_size = 64K\n")
    broker.wait_log(r"server1 1 .*telemetry")
    older = tmp_path / "telemetry.ndjson.1"
    for part in range(4):
        for i in range(20):
            peer.publish("lamp1/telemetry", {"light": 100 * part + i, "padding": "x" * 1000})
        last = f'"light": {100 * part + 19},'
        wait_until(lambda: recording.exists() and last in recording.read_text(), "the recording")
        assert sum(path.stat().st_size for path in (recording, older) if path.exists()) <= 65536
    assert older.exists()
    numbers = [json.loads(each)["payload"]["light"]
               for path in (older, recording) for each in path.read_text().splitlines()]
    assert numbers == sorted(numbers) and numbers[-1] == 319


def test_the_running_server_says_why(broker, start_daemon, connect):
    peer = connect(broker, "#")
    server = start_daemon("server1", configs.server(broker.port, "server1", configs.RULE))
    broker.wait_log("server1 1 .*telemetry")
    directory = server.directory / "run"

    def explain(*arguments):
        return ctl("rules", "explain", *arguments, RUNTIME_DIRECTORY=f"{directory}:/elsewhere")

    nothing = explain("nightlight")
    assert nothing.returncode == 1 and "has decided nothing since" in nothing.stderr
    for lamp, light in (("lamp1", 250), ("lamp2", 500)):
        peer.publish(f"{lamp}/telemetry", {"light": light})
        peer.wait(f"{lamp}/commands", {"led_on": light < 300})
    peer.publish("lamp1/telemetry", {"light": 310})
    wait_until(lambda: "light = 310" in explain("nightlight", "--for", "lamp1").stdout, "the reading")
    lines = explain("nightlight", "--for", "lamp1").stdout.splitlines()
    assert re.fullmatch(r'\d{4}-\S+Z  lamp1  rule nightlight: {"led_on": true}  because light = 250', lines[0])
    assert re.fullmatch(r"at present light = 310 \(\d+ m?s old\)", lines[1])
    last = explain("nightlight")
    assert last.returncode == 0 and "lamp2  rule nightlight" in last.stdout
    for arguments, text in (
        (["nightligt"], "did you mean 'nightlight'?"),
        (["nightlight", "--for", "lamp9"], "nothing has been heard of a device 'lamp9'"),
        (["nightlight", "--config", server.config_path], "--config goes with --replay"),
    ):
        result = explain(*arguments)
        assert result.returncode == 1 and text in result.stderr

    server.reload(configs.server(broker.port, "server1", configs.RULE.replace("300", "350")))
    wait_until(lambda: explain("nightlight").returncode == 1, "another rule")
    peer.publish("lamp1/telemetry", {"light": 330})
    wait_until(lambda: "because light = 330" in explain("nightlight").stdout, "its decision")

    server.signal(signal.SIGSTOP)  # it hangs: that is told as well
    hung = explain("nightlight")
    server.signal(signal.SIGCONT)
    assert hung.returncode == 6 and "cannot ask the server" in hung.stderr
    server.kill()
    gone = explain("nightlight")
    assert gone.returncode == 6 and "no server runs here" in gone.stderr
    server.start()  # the socket that was left is no hindrance
    wait_until(lambda: explain("nightlight").returncode == 1, "it is back")
    server.stop()
    assert not list(directory.iterdir())


def test_a_clock_that_is_set_back_ends_no_recording(broker, start_daemon, connect, tmp_path):
    recording = tmp_path / "telemetry.ndjson"
    daemons_clock = clock.Clock(tmp_path / "clock")
    peer = connect(broker, "#")
    start_daemon("server1", configs.server(broker.port) + f"\n[server]\nrecord = {recording}\n",
                 env=daemons_clock.env)
    broker.wait_log(r"server1 1 .*telemetry")
    for light, added in ((500, -60), (100, -3600), (900, -3600)):
        peer.publish("lamp1/telemetry", {"light": light})
        wait_until(lambda: recording.exists() and f'"light": {light}' in recording.read_text(), "the recording")
        daemons_clock.set(added)
    assert '"light": 500' in recording.read_text()
