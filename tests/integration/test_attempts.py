# SPDX-License-Identifier: LGPL-2.1-or-later
"""Attempts to connect that get stuck on the way: what is given up never speaks, and another way is tried."""

import contextlib
import os
import pathlib
import signal
import socket
import time

import pytest

from support import mounts, netns
from support.certs import Authority
from support.fakes import BlackHole
from support.family import children, exists
from support.home import make_home, make_hostile  # noqa: F401 (fixtures)
from support.netns import ESTABLISHED, SYN_SENT
from support.process import free_port
from support.wait import holds_for, wait_until


class FullListener:
    """
    A listener whose queue is full: the kernel drops what comes, as a network may, until it is
    emptied. A SYN that was dropped is sent again for minutes, unless its socket is closed meanwhile.
    """

    def __init__(self, host="127.0.0.1", port=0):
        self.listener = socket.create_server((host, port), backlog=0)
        self.port = self.listener.getsockname()[1]
        self._fillers = []
        while True:
            filler = socket.socket()
            self._fillers.append(filler)
            filler.settimeout(0.3)
            try:
                filler.connect((host, self.port))
            except OSError:
                break  # this one was dropped
        self._fillers.pop().close()

    def empty(self):
        """From now on connections succeed."""
        self.listener.listen(100)
        for filler in self._fillers:
            filler.close()

    def close(self):
        for each in (self.listener, *self._fillers):
            each.close()


@pytest.fixture
def make_full_listener():
    listeners = []

    def make(*args):
        listeners.append(FullListener(*args))
        return listeners[-1]

    yield make
    for listener in listeners:
        listener.close()


@pytest.fixture
def network():
    if not netns.can_be_had():
        pytest.skip("takes root and a network namespace")
    network = netns.Network()
    yield network
    network.close()


class Stuck:
    """A home whose attempts get nowhere. It is the first one's sockets that matter."""

    def __init__(self, home, listener):
        self.home, self.listener = home, listener
        self._first = wait_until(lambda: self._clients(SYN_SENT), "an attempt")

    def _clients(self, *states):
        return netns.clients(self.listener.port, states, self.home.daemon.pid)

    def has_made_another(self):
        return self._clients(SYN_SENT) - self._first

    def wait_established(self):
        """By the kernel alone: the daemon and all its processes are stopped."""
        wait_until(lambda: self._clients(ESTABLISHED) & self._first, "a connection")

    def is_given_up(self):
        return not self._clients(ESTABLISHED, SYN_SENT) & self._first

    def check_one_speaks(self, make_hostile):
        """The network works again: one CONNECT comes, and no other from what was given up."""
        self.listener.empty()
        hostile = self.home.broker = make_hostile(listener=self.listener.listener)
        self.home.works()
        # The other ends are in this table, too.
        wait_until(lambda: not self._clients() & self._first, "the first to get through, or to be closed", 60)
        holds_for(lambda: len(hostile.connects) == 1, 0.3, lambda: f"{len(hostile.connects)} CONNECTs")


def test_an_attempt_that_a_reload_gives_up_never_speaks(make_full_listener, make_hostile, make_home):
    listener = make_full_listener()
    home = make_home(listener).start()
    stuck = Stuck(home, listener)
    mark = home.daemon.reload(home.text.replace("protocol = 5", "protocol = 5\nkeepalive = 50s"))
    home.daemon.wait_log("configuration reloaded", mark)
    wait_until(stuck.has_made_another, "another attempt")
    stuck.check_one_speaks(make_hostile)


@contextlib.contextmanager
def stopped(pid):
    family = [pid, *children(pid)]
    for each in family:
        os.kill(each, signal.SIGSTOP)
    yield
    for each in family:
        os.kill(each, signal.SIGCONT)


@pytest.mark.slow
def test_an_attempt_that_took_too_long_never_speaks(make_full_listener, make_hostile, make_home, network):
    """One whose SYN gets lost, and one whose CONNECT does; at the same time, since each takes 20 s."""
    listener = make_full_listener()
    with network.within():
        far = make_full_listener(netns.ADDRESS)
    syn = Stuck(make_home(listener).start(), listener)

    home = make_home(far, "lamp2", prefix=network.prefix)
    home.daemon.configure(home.text.replace("host = 127.0.0.1", f"host = {netns.ADDRESS}"))
    connect = Stuck(home.start(), far)
    with stopped(home.pid):
        far.empty()
        connect.wait_established()
        network.down()
    home.react_until(connect.is_given_up, "an end of the attempt", within=2, timeout=30)
    network.up()
    connect.check_one_speaks(make_hostile)

    syn.home.react_until(syn.has_made_another, "another attempt", within=2, timeout=30)
    syn.check_one_speaks(make_hostile)


@pytest.fixture
def hosts(tmp_path):
    """hosts(addresses): the prefix of a daemon for which broker.test has those, in that order."""
    if not mounts.can_be_had():
        pytest.skip("takes root and a mount namespace")

    def make(addresses):
        path = tmp_path / "hosts"
        path.write_text("127.0.0.1 localhost\n" + "".join(f"{each} broker.test\n" for each in addresses))
        return mounts.prefix(f"mount --bind {path} /etc/hosts")

    return make


@pytest.mark.parametrize("order", [1, -1], ids=["first", "second"])
def test_a_name_of_which_one_address_drops_all_connects_within_5_seconds(
    hosts, make_full_listener, make_hostile, make_home, order
):
    port = free_port()
    make_full_listener("127.0.0.3", port)
    hostile = make_hostile("127.0.0.2", port)
    home = make_home(hostile, prefix=hosts(["127.0.0.3", "127.0.0.2"][::order]))
    home.daemon.configure(home.text.replace("host = 127.0.0.1", "host = broker.test"))
    begin = time.monotonic()
    home.start()
    hostile.wait_connects(1, timeout=6)
    assert hostile.connects[0].received - begin < 5
    home.works()
    wait_until(lambda: not netns.clients(port, [SYN_SENT]), "an end of the other attempt")
    assert len(hostile.connects) == 1


@pytest.fixture(scope="module")
def many_authorities(tmp_path_factory):
    """A file that takes a while to read, so that a stop finds the daemon amidst it."""
    directory = tmp_path_factory.mktemp("authorities")
    path = directory / "many.crt"
    path.write_text(Authority(directory).ca.read_text() * 1000)
    return path


@pytest.mark.slow
def test_a_stop_at_any_phase_of_a_tls_connect_is_a_clean_end(make_home, many_authorities):
    """A thread that is within OpenSSL when its process exits finds its memory freed under its feet."""
    hole = BlackHole()
    settings = f"tls = yes\nca_file = {many_authorities}"
    try:
        for i in range(16):
            home = make_home(hole, f"lamp{i}", settings)
            count = len(hole.connections)
            home.daemon.start()
            wait_until(lambda count=count: len(hole.connections) > count, home.daemon.log)
            time.sleep(0.005 * i)  # another phase each time
            family = children(home.daemon.pid)
            maps = pathlib.Path(f"/proc/{home.daemon.pid}/maps").read_text()
            home.daemon.stop(timeout=10)
            assert not [pid for pid in family if exists(pid)], "a child outlives it"
            assert "libcrypto" not in maps and "libssl" not in maps, "exit(3) cleans up after OpenSSL"
    finally:
        hole.close()
