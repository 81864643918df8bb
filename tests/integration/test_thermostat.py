# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shipped thermostat, with files for its rooms: who decides, and what arrives after an outage."""

import re
import time

from support.daemon import ROOT
from support.wait import holds_for

EXAMPLE = ROOT / "conf/examples/thermostat.conf"


def with_files(text, broker, rooms, heat):
    """What the simulated rooms and the log stand for."""
    for name, room in rooms.items():
        text = re.sub(
            rf"(\[sensor {name}\]\n)(?:\w+ = .*\n)+",
            rf"\1driver = file\npath = {room}\ninterval = 200ms\n",
            text,
        )
    text = text.replace("driver = log\n", f"driver = file\npath = {heat}\n")
    text = text.replace("disconnect_after = 30s", "disconnect_after = 500ms")
    text = text.replace("role = combined", "role = combined\nid = home")
    return text.replace(
        "host = localhost", f"host = 127.0.0.1\nport = {broker.port}\nreconnect_min = 100ms\nreconnect_max = 300ms"
    )


def test_it_heats_by_three_rooms_and_alone_by_one(start_broker, start_daemon, connect, value):
    broker = start_broker()
    rooms = {name: value(name, 22) for name in ("hall", "kitchen", "bath")}
    heat = value("heat")
    daemon = start_daemon("home", with_files(EXAMPLE.read_text(), broker, rooms, heat))
    peer = connect(broker, "#")
    peer.wait("home/telemetry", {"hall": 22, "kitchen": 22, "bath": 22})
    rooms["hall"].write(18)  # one cold room of three is not enough
    peer.wait("home/telemetry", {"hall": 18, "kitchen": 22, "bath": 22})
    holds_for(lambda: heat.read() in (None, "0\n"), 1, "it is warm enough")
    for room in ("kitchen", "bath"):
        rooms[room].write(18)
    heat.wait("1\n")
    for room in rooms.values():
        room.write(22)
    heat.wait("0\n")

    broker.kill()
    rooms["hall"].write(18)
    heat.wait("1\n")
    rooms["hall"].write(21)
    heat.wait("0\n")
    rooms["hall"].write(17)
    heat.wait("1\n")
    assert not daemon.grep("it is set to"), "the rule goes before on_disconnect"
    time.sleep(1)

    broker.start()
    peer = connect(broker, "#")
    peer.wait("home/telemetry", lambda reading: reading["hall"] == 17)
    heat.wait("0\n")  # (17 + 22 + 22) / 3: the server's word counts again
    assert all(reading["hall"] == 17 for reading in peer.objects("home/telemetry")), "and nothing old came"
    daemon.stop()
    assert heat.read() == "0\n"
