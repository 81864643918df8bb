# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The integration tests: a real daemon, a real mosquitto, real files, on loopback.

    NIGHTLIGHTD=/path/to/nightlightd /usr/bin/python3 -m pytest tests/integration

Each test has a broker, daemons and peers of its own. Whatever a test starts is ended by its own
handle, and a daemon that a test leaves running must stop cleanly: exit code 0, within the
deadline, with nothing of a sanitizer in its log.
"""

import os

import pytest

from support.broker import Broker
from support.crash import Line, World
from support.daemon import Daemon, Value, binary
from support.peer import Peer


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def pytest_sessionstart(session):
    if not os.access(binary(), os.X_OK):
        pytest.exit(f"{binary()}: no such program; build it, or name it in NIGHTLIGHTD", 2)


@pytest.fixture
def start_broker(tmp_path):
    """start_broker(settings, listener): a running Broker."""
    brokers = []

    def start(*args, **kwargs):
        broker = Broker(tmp_path / f"broker{len(brokers)}", *args, **kwargs)
        brokers.append(broker)
        return broker.start()

    yield start
    for broker in brokers:
        broker.kill()
        print(f"--- mosquitto, its last lines\n{broker.log()[-8000:]}")


@pytest.fixture
def broker(start_broker):
    return start_broker()


@pytest.fixture
def make_daemon(tmp_path):
    """make_daemon(name, config, ...): a Daemon that is not started yet."""
    daemons = []

    def make(name, config, **kwargs):
        daemon = Daemon(tmp_path / name, config, **kwargs)
        daemons.append(daemon)
        return daemon

    yield make
    try:
        for daemon in daemons:
            daemon.stop()
    finally:
        for daemon in daemons:
            daemon.kill()
            print(f"--- {daemon.name}\n{daemon.log()}")  # pytest shows it if the test failed


@pytest.fixture
def start_daemon(make_daemon):
    """start_daemon(name, config, ...): a running Daemon."""
    return lambda *args, **kwargs: make_daemon(*args, **kwargs).start()


@pytest.fixture
def connect():
    """connect(broker or port, *filters): a Peer."""
    peers = []

    def make(broker, *filters, **kwargs):
        peer = Peer(getattr(broker, "port", broker), *filters, **kwargs)
        peers.append(peer)
        return peer

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def value(tmp_path):
    """value(name, text): a Value in the test's directory; without text there is no file yet."""
    return lambda name, text=None: Value(tmp_path / name, text)


@pytest.fixture
def make_world(make_daemon, start_broker):
    """make_world(settings of support.crash.config): a World whose daemon is not started yet."""
    worlds = []

    def make(*args, **kwargs):
        worlds.append(World(make_daemon, start_broker, *args, **kwargs))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def line(start_broker):
    """A Line, with a broker of its own."""
    line = Line(start_broker)
    yield line
    line.close()
