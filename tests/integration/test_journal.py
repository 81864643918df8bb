# SPDX-License-Identifier: LGPL-2.1-or-later
"""Logging to the journal: the fields that people filter by, and a journal that hangs."""

import signal

import pytest

from support import configs, journal

pytestmark = pytest.mark.skipif(not journal.can_be_had(), reason="needs root and mount namespaces")

@pytest.fixture
def the_journal(tmp_path):
    the_journal = journal.Journal(tmp_path / "journal")
    yield the_journal
    the_journal.close()


def test_entries_carry_the_fields(the_journal, broker, connect, start_daemon, value):
    config = configs.nightlight(broker.port, value("light", 250), value("led"))
    daemon = start_daemon("lamp1", config + configs.sensor("gone", "/nowhere"), prefix=the_journal.prefix)
    ready = the_journal.wait("is up")
    assert ready["PRIORITY"] == "5"
    assert ready["SYSLOG_IDENTIFIER"] == "nightlightd"
    assert ready["DEVICE"] == "lamp1"
    assert len(ready["MESSAGE_ID"]) == 32
    assert the_journal.wait("sensor gone")["SENSOR"] == "gone"
    assert the_journal.wait("telemetry from")["TOPIC"] == "lamp1/telemetry"
    command = the_journal.wait("rule nightlight: command")
    assert (command["RULE"], command["DEVICE"], command["TOPIC"]) == ("nightlight", "lamp1", "lamp1/commands")
    connect(broker).publish("lamp1/commands", "x" * 100_000)
    assert the_journal.wait("rejected")["PRIORITY"] == "4"
    assert not [entry for entry in the_journal.entries() if "CODE_FILE" in entry]
    assert daemon.log() == ""


def test_a_journal_that_hangs_holds_nobody_up(the_journal, broker, start_daemon, value):
    light, led = value("light", 250), value("led")
    the_journal.fill()
    daemon = start_daemon("lamp1", configs.nightlight(broker.port, light, led), prefix=the_journal.prefix)
    led.wait("1\n")
    the_journal.entries()  # it takes lines again
    light.write(400)
    led.wait("0\n")
    lost = the_journal.wait("lines are lost")
    assert lost["PRIORITY"] == "4"
    the_journal.fill()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_exit(2) == 0
