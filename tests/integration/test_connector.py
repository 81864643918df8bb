# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process that speaks MQTT for the daemon: what it may do, and what its death costs."""

import os
import pathlib
import shutil
import signal
import socket
import ssl

import pytest

from support import configs, mqtt
from support import connector as frames
from support.certs import Authority
from support.daemon import binary
from support.family import (
    children, connector_binary, descriptors, exists, is_sanitized, libraries, status, variables, wait_children,
)  # fmt: skip
from support.home import Books, home, hostile, make_home, make_hostile  # noqa: F401 (fixtures)
from support.notify import Manager
from support.wait import DEADLINE, holds_for, wait_until

WINDOW = 1000  # max_inflight

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


# /proc shows the rest of a process that must not be looked into to nobody else.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


def connector(home):
    return wait_children(home.pid)[0]


def test_the_daemon_is_not_linked_with_what_speaks_to_the_network():
    linked = libraries(binary())
    assert "libmosquitto" not in linked and "libssl" not in linked, linked
    assert "libmosquitto" in libraries(connector_binary())


@needs_root
def test_a_client_is_a_process(home):
    pid = connector(home)
    assert pathlib.Path(f"/proc/{pid}/exe").resolve() == connector_binary().resolve()


def test_a_device_and_a_server_in_one_are_two_processes(start_broker, start_daemon, value):
    broker, led = start_broker(), value("led")
    daemon = start_daemon("lamp1", configs.nightlight(broker.port, value("light", 250), led))
    led.wait("1\n")
    wait_children(daemon.pid, 2)
    daemon.stop()


@needs_root
def test_the_connector_is_handed_no_more_than_it_needs(tmp_path, hostile, make_home):
    password = tmp_path / "password"
    password.write_text("sesame42\n")
    manager = Manager(tmp_path, watchdog_usec=10_000_000)
    try:
        settings = f"protocol = 5\nusername = joe\npassword_file = {password}"
        home = make_home(hostile, settings=settings, env={**manager.env, "LISTEN_FDNAMES": "none"}).start()
        home.works()
        pid = connector(home)
        environment = variables(pid)
        assert not [name for name in environment if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]
        told = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() + str(environment).encode()
        assert b"sesame42" not in told and b"joe" not in told, told
    finally:
        manager.close()
    # Standard input, output and error, its end of the pair, and what the library opens.
    files = {fd: name for fd, name in descriptors(pid).items() if fd > 2}
    assert len(files) <= 8, files
    assert all(name.startswith(("socket:", "anon_inode:", "pipe:")) for name in files.values()), files


def test_the_connector_can_do_little(home):
    pid = connector(home)
    found = status(pid)
    assert os.getpgid(pid) == pid, "a terminal's signals are the daemon's"
    if not is_sanitized():  # which does what a filter forbids
        assert found["NoNewPrivs"] == "1" and found["Seccomp"] == "2", found
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"], core
    ignored = int(found["SigIgn"], 16)
    assert all(ignored >> number - 1 & 1 for number in SIGNALS), found["SigIgn"]


def test_the_connector_leaves_stopping_to_the_daemon(home, hostile):
    pid = connector(home)
    for number in SIGNALS:
        os.kill(pid, number)
    home.works()
    assert children(home.pid) == [pid] and len(hostile.connects) == 1


def test_a_connector_that_is_killed_is_a_lost_connection(home, hostile):
    pid, mark = connector(home), home.daemon.mark()
    for n in range(3):
        old = len(hostile.connects)
        os.kill(pid, signal.SIGKILL)
        home.react_until(lambda old=old: len(hostile.connects) > old, "another connection", within=1)
        pid = wait_children(home.pid, other_than=[pid])[0]
        home.works(since=old)
        assert len(home.complaints(mark)) == n + 1, home.daemon.log(mark)
    assert all("signal" in line.lower() for line in home.complaints(mark)), home.complaints(mark)
    check_repetitions(hostile, 3 * WINDOW)
    Books(home).settle()


def check_repetitions(hostile, most):
    seqs = [each.seq for each in hostile.published if each.topic == "lamp1/telemetry"]
    assert len(seqs) - len(set(seqs)) <= most


@pytest.mark.slow
def test_a_connector_that_hangs_is_replaced(home, hostile):
    pid, mark = connector(home), home.daemon.mark()
    os.kill(pid, signal.SIGSTOP)
    home.react_until(lambda: len(hostile.connects) > 1, "another connection", within=1, timeout=40)
    assert not exists(pid)
    wait_children(home.pid, other_than=[pid])
    home.works(since=1)
    assert len(home.complaints(mark)) == 1, home.daemon.log(mark)
    check_repetitions(hostile, WINDOW)
    Books(home).settle()


def test_connectors_die_with_a_daemon_that_is_killed(home):
    pid = connector(home)
    home.daemon.kill()
    wait_until(lambda: not exists(pid), "the connector's end", 1)


def test_a_stop_takes_the_connectors_along(home, hostile):
    pid = connector(home)
    home.daemon.stop()
    assert not exists(pid)
    hostile.wait("lamp1/status", lambda said: said["status"] == "offline")


def test_a_stop_does_not_wait_for_a_connector_that_hangs(home):
    pid = connector(home)
    os.kill(pid, signal.SIGSTOP)
    home.daemon.stop(timeout=8)
    assert not exists(pid)


def kinds(end):
    return [each[0] for each in end.take() if each]


def test_no_message_is_acknowledged_that_a_server_cannot_be_told(hostile, tmp_path):
    """A daemon that stands still: what the broker may forget by then is on the way to it."""
    end = frames.Connector(tmp_path, hostile.port, "server1")
    try:
        wait_until(lambda: frames.CONNECTED in kinds(end), "the connection")
        end.subscribe(1, "+/telemetry")
        connection = hostile.wait_subscribed()
        told = kinds(end).count(frames.MESSAGE)
        payload = b'{"light": 1}'.ljust(1000)
        many = [mqtt.publish(5, b"lamp1/telemetry", payload, 1, n + 1) for n in range(20_000)]
        hostile.send(b"".join(many[n : n + 100]) for n in range(0, len(many), 100))
        count = lambda: (connection.sent, len(connection.packets))  # noqa: E731
        settled = []

        def stands_still():
            settled.append(count())
            return len(settled) > 10 and len(set(settled[-10:])) == 1

        wait_until(stands_still, "the pair to be full")
        end.popen.kill()
        end.popen.wait()
        told += kinds(end).count(frames.MESSAGE)
        assert 0 < told < 20_000 and len(connection.ids(mqtt.PUBACK)) <= told
    finally:
        end.end()


def test_the_broker_s_receive_maximum_is_kept_and_its_acknowledgements_bring_the_next(hostile, tmp_path):
    """MQTT 5.0, section 4.9. The daemon hands over more, so that the broker need not wait for it."""
    receive_maximum = b"\x21" + mqtt.number(5)
    hostile.answer(mqtt.CONNECT, mqtt.connack(5, 0, receive_maximum))
    hostile.answer(mqtt.PUBLISH, b"")
    end = frames.Connector(tmp_path, hostile.port, "lamp1")
    try:
        wait_until(lambda: frames.CONNECTED in kinds(end), "the connection")
        for number in range(1, 11):
            end.publish(number, "lamp1/telemetry", b'{"n": %d}' % number)

        def payloads():
            return [each.payload for each in hostile.published]

        wait_until(lambda: len(payloads()) == 5, lambda: f"5 of 10; there are {payloads()}")
        holds_for(lambda: len(payloads()) == 5, 0.3, "no more than the broker takes")
        connection = hostile.connections[-1]
        for count in range(1, 6):
            hostile.send(mqtt.acknowledgement(5, mqtt.PUBACK, hostile.published[count - 1].packet_id), connection)
            wait_until(lambda: len(payloads()) == 5 + count, "the next")  # noqa: B023
        assert payloads() == [b'{"n": %d}' % number for number in range(1, 11)]
        assert kinds(end).count(frames.ACKNOWLEDGED) == 5
    finally:
        end.end()


class TlsBroker:
    """The broker's end of one connection. It does what its test calls, and nothing by itself."""

    def __init__(self, authority):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*authority.issue("server"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE)
        self.port = self._listener.getsockname()[1]
        self._connection = None

    def accept(self):
        self._connection = self.context.wrap_socket(self._listener.accept()[0], server_side=True)
        assert self._connection.recv(4096)[0] >> 4 == mqtt.CONNECT
        self.send(mqtt.connack(5))

    def send(self, data):
        """In one record (RFC 8446, section 5.1)."""
        assert len(data) < 1 << 14 and self._connection.send(data) == len(data)

    def close(self):
        self._listener.close()
        if self._connection:
            self._connection.close()


@pytest.fixture
def tls_broker(tmp_path):
    broker = TlsBroker(Authority(tmp_path / "authority"))
    yield broker
    broker.close()


def test_what_tls_has_decrypted_is_read_without_another_word_of_the_broker(tls_broker, tmp_path):
    """
    A broker that reads nothing: each PUBACK has to wait, and after each the library stops to read.
    What is left by the end of a turn is in OpenSSL's memory, where no poll(2) sees it.
    """
    ca_file = str(tmp_path / "authority/ca.crt")
    limits = {"max_message": 4 << 20, "max_rate": 100_000}
    end = frames.Connector(tmp_path, tls_broker.port, "lamp1", ca_file=ca_file, **limits)
    try:
        tls_broker.accept()
        wait_until(lambda: frames.CONNECTED in kinds(end), "the connection")
        end.pair.settimeout(DEADLINE)
        for number in range(1, 101):  # more than the kernel takes
            end.publish(number, "lamp1/telemetry", bytes(60_000))
        end.pair.setblocking(False)
        tls_broker.send(b"".join(mqtt.publish(5, "a", b"", 1, n + 1) for n in range(1000)))
        arrived = []

        def all_have_come():
            arrived.extend(kinds(end))
            return arrived.count(frames.MESSAGE) == 1000

        wait_until(all_have_come, lambda: f"1000 messages; {arrived.count(frames.MESSAGE)} came")
        assert frames.ACKNOWLEDGED not in arrived
    finally:
        end.end()


@pytest.fixture
def copied(make_home, hostile, tmp_path):
    """A Home that is not started yet, of programs that a test may remove: the connector's path is the other."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for path in (pathlib.Path(binary()), connector_binary()):
        shutil.copy(path, directory)
    home = make_home(hostile)
    home.daemon.argv[0] = str(directory / pathlib.Path(binary()).name)
    return home, directory / "connector"


def test_a_connector_that_cannot_be_started_is_said_and_tried_again(copied):
    home, program = copied
    away = program.rename(program.with_name("away"))
    home.start()
    home.daemon.wait_log("^(warning|error) .*(?i:connect)")
    home.react(within=1)
    holds_for(home.daemon.alive, 0.5, "goes on trying")
    away.rename(program)
    home.works()


def test_an_upgrade_under_way_is_no_matter(copied):
    """The program that was there at the start is the one that fits the daemon, also once it is removed."""
    home, program = copied
    home.start()
    home.works()
    program.unlink()
    pid = connector(home)
    os.kill(pid, signal.SIGKILL)
    wait_children(home.pid, other_than=[pid])
    home.works(since=1)
