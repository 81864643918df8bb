# SPDX-License-Identifier: LGPL-2.1-or-later
"""The shipped robot arm: raise, then grip; let go, then lower; each once, across kill -9."""

import re

from support.daemon import ROOT
from support.wait import wait_until

EXAMPLE = ROOT / "conf/examples/robot-arm.conf"

STEPS = ["raised 1", "gripped 1", "gripped 0", "raised 0"]


def with_files(text, port, part, log):
    """A file for the sensor, a program that is slow and keeps a log for each actuator."""
    text = re.sub(r"(\[sensor part\]\n)(?:\w+ = .*\n)+", rf"\1driver = file\npath = {part}\ninterval = 100ms\n", text)
    for name in ("raised", "gripped"):
        script = f"sleep 0.2; echo {name} \\$1 >> {log}"
        text = text.replace(
            f"[actuator {name}]\ndriver = log\n",
            f'[actuator {name}]\ndriver = exec\ncommand = /bin/sh -c "{script}" sh\n',
        )
    text = text.replace("role = combined", "role = combined\nid = arm1")
    return text.replace(
        "host = localhost", f"host = 127.0.0.1\nport = {port}\nreconnect_min = 100ms\nreconnect_max = 300ms"
    )


def test_it_raises_and_then_grips_across_restarts(broker, make_daemon, connect, value, tmp_path):
    part, log = value("part", 0), tmp_path / "log"
    log.write_text("")
    peer = connect(broker, "#")
    daemon = make_daemon("arm1", with_files(EXAMPLE.read_text(), broker.port, part, log)).start()

    def steps():
        return log.read_text().splitlines()

    def wait_steps(expected):
        wait_until(lambda: steps() == expected, lambda: f"{expected}: {steps()}")

    wait_steps(STEPS[2:])  # there is no part: it lets go and is lowered
    part.write(1)
    wait_steps(STEPS[2:] + STEPS[:2])
    replies = [reply["status"] for reply in peer.objects("arm1/replies")]
    assert replies.count("done") == len(replies) >= 3
    log.write_text("")
    broker.kill()
    part.write(0)
    daemon.wait_log(r"not connected: queued")
    daemon.kill()
    daemon.start()
    broker.start()
    # A start sets each actuator anew to what it was; then what was decided, in order.
    wait_until(lambda: steps()[-2:] == STEPS[2:], lambda: f"{STEPS[2:]}: {steps()}", 30)
    assert sorted(steps()[:-2]) in ([], ["gripped 1", "raised 1"])
    moved = steps()
    daemon.kill()
    daemon.start()
    mark = daemon.mark()
    peer.wait("arm1/status", lambda status: status["status"] == "online", since=peer.mark())
    daemon.wait_log(r"telemetry from arm1", mark, count=3)
    assert steps()[: len(moved)] == moved
    assert set(steps()[len(moved) :]) <= {"gripped 0", "raised 0"}
