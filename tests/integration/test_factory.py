# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shipped factory: alarms at once and alone, every reading of an outage in order, wear over time."""

from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "conf/examples/factory.conf"


def configure(daemon, port, more=""):
    conf = f"[broker]\nport = {port}\nreconnect_min = 100ms\nreconnect_max = 300ms\n"
    directory = daemon.directory / "conf.d"
    directory.mkdir(exist_ok=True)
    (directory / "test.conf").write_text(conf + more)


def press(make_daemon, port, vibration):
    daemon = make_daemon("press1", EXAMPLE.read_text())
    configure(daemon, port, "[daemon]\nid = press1\n[sensor vibration]\nwave = constant\n"
              f"min = {vibration}\n")
    return daemon.start()


def test_the_alarm_needs_nobody(make_daemon):
    daemon = press(make_daemon, 1, 9.5)
    daemon.wait_log("alarm.*true")


def test_an_outage_is_delivered_in_order_with_its_times(broker, make_daemon, connect):
    peer = connect(broker, "press1/telemetry")
    daemon = press(make_daemon, broker.port, 1)
    peer.wait("press1/telemetry", lambda reading: "vibration" in reading, count=4)
    broker.kill()
    daemon.wait_log("connection to the broker lost")
    mark = daemon.mark()
    broker.start()
    daemon.wait_log("connected to", mark)
    peer.wait("press1/telemetry", lambda reading: "vibration" in reading, count=20)
    times = [reading["time"] for reading in peer.objects("press1/telemetry") if "vibration" in reading]
    assert len(times) >= 20
    unique = sorted(set(times))
    assert [each for i, each in enumerate(times) if each not in times[:i]] == unique


def test_the_server_sees_wear_over_time(broker, make_daemon, connect):
    peer = connect(broker, "press1/commands", "press1/telemetry", "press1/state")
    server = make_daemon("server1", EXAMPLE.read_text())
    configure(server, broker.port, "[daemon]\nrole = server\nid = server1\n")
    server.start()
    broker.wait_log(r"server1 1 .*telemetry")
    press(make_daemon, broker.port, 8)
    peer.wait("press1/commands", {"slow": True})
    peer.wait("press1/state", lambda state: state["slow"] is True)
