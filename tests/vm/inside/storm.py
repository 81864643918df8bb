# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Runs in the guest: twice a second does something bad to one of the service's connectors, chosen at random, or
to what lies between it and the broker.

    storm.py PID ROUNDS SEED    # of the daemon, whose children the connectors are

kill    SIGKILL
stop    SIGSTOP; nobody lets it go on
large   a message that a connector has no memory for, on a topic that it subscribes to; the next round waits
        until the broker has it, which is seconds on an emulated CPU
deaf    for a second the broker is sent nothing, or sends nothing, though it can be reached; a connector is
        killed, and its successor likewise while it waits for CONNACK
hole    for some seconds nothing passes on a connector's connection

Writes a line for each: the time since boot, the kind, and to whom. The packets are kept back by nftables.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import time

PAUSE_SECONDS = 0.5
DEAF_SECONDS = 1
HOLE_SECONDS = 2, 5, 30
BROKER_PORT, OUR_PORT = 1883, 1884
# RLIMIT_DATA of a connector is 38 MiB as long as max_message is 1 MiB at most.
LARGE_BYTES = 42 << 20
LARGE_LIMIT_SECONDS = 20
TOPICS = "lamp1/commands", "other/telemetry"  # the device's, the server's
# Deaf and mute are ports of the broker, a hole is one of a client.
FILTER = """
table inet storm {
    set deaf { type inet_service; flags timeout; }
    set mute { type inet_service; flags timeout; }
    set hole { type inet_service; flags timeout; }
    chain output {
        type filter hook output priority 0;
        tcp dport @deaf tcp flags & psh == psh drop
        tcp sport @mute tcp flags & psh == psh drop
        tcp sport @hole drop
        tcp dport @hole drop
    }
}
"""


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Filter:
    def __init__(self):
        subprocess.run(["nft", "-f", "-"], input=FILTER, text=True, check=True)
        # One that stays: to start another each time takes as long as a round.
        self._nft = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, text=True, bufsize=1)

    def keep_back(self, how, port, seconds):
        self._nft.stdin.write(f"add element inet storm {how} {{ {port} timeout {seconds}s }}\n")

    def close(self):
        self._nft.stdin.write("delete table inet storm\nquit\n")
        assert self._nft.wait(10) == 0


# --- connections --------------------------------------------------------------------------------------


def sockets(pid):
    """The inodes of its sockets; none of a process that has just ended."""
    found = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
            if name.startswith("socket:["):
                found.add(name[len("socket:["):-1])
    except OSError:
        pass
    return found


def ports(pid):
    """The ports of its own from which it is connected to the broker."""
    own, found = sockets(pid), set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        for fields in map(str.split, list(table)[1:]):
            local, remote = (int(fields[i].split(":")[1], 16) for i in (1, 2))
            if remote == BROKER_PORT and fields[9] in own:
                found.add(local)
    return found


# --- a publisher --------------------------------------------------------------------------------------


def text(string):
    return len(string).to_bytes(2, "big") + string.encode()


def packet(kind, body, more=0):
    """An MQTT packet but for so many bytes more at its end."""
    length, size = b"", len(body) + more
    while not length or size:
        length += bytes([size & 0x7F | (0x80 if size > 0x7F else 0)])
        size >>= 7
    return bytes([kind]) + length + body


def publish_large(topic):
    """Returns when the broker has handed it on, or after a while."""
    with socket.create_connection(("127.0.0.1", OUR_PORT), LARGE_LIMIT_SECONDS) as broker:
        broker.sendall(packet(0x10, text("MQTT") + bytes([4, 2, 0, 60]) + text("large")))
        broker.recv(4)
        broker.sendall(packet(0x30, text(topic), LARGE_BYTES))
        part = bytes(1 << 20)
        for _ in range(LARGE_BYTES // len(part)):
            broker.sendall(part)
        broker.sendall(packet(0xE0, b""))
        broker.recv(1)


# --- what happens -------------------------------------------------------------------------------------


class Storm:
    def __init__(self, daemon, seed):
        self._daemon = daemon
        self._choice = random.Random(seed)
        self._filter = Filter()

    def _connectors(self):
        with open(f"/proc/{self._daemon}/task/{self._daemon}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]

    def _hit(self, number):
        found = self._connectors()
        if not found:
            return "nobody"
        pid = self._choice.choice(found)
        send(pid, number)
        return pid

    def kill(self):
        return self._hit(signal.SIGKILL)

    def stop(self):
        return self._hit(signal.SIGSTOP)

    def large(self):
        topic = self._choice.choice(TOPICS)
        try:
            publish_large(topic)
        except OSError as error:
            return topic, error  # the broker has closed it, for want of memory
        return topic

    def deaf(self):
        how, old = self._choice.choice(("deaf", "mute")), self._connectors()
        self._filter.keep_back(how, BROKER_PORT, DEAF_SECONDS)
        first = self._hit(signal.SIGKILL)
        time.sleep(PAUSE_SECONDS - 0.1)
        new = [pid for pid in self._connectors() if pid not in old]
        for pid in new:
            send(pid, signal.SIGKILL)
        return how, first, *new

    def hole(self):
        found = self._connectors()
        if not found:
            return "nobody"
        pid, seconds = self._choice.choice(found), self._choice.choice(HOLE_SECONDS)
        for port in ports(pid):
            self._filter.keep_back("hole", port, seconds)
        return pid, f"for {seconds} s"

    def round(self):
        kind = self._choice.choice(("kill", "stop", "large", "deaf", "hole"))
        begin, whom = now(), getattr(self, kind)()
        print(f"{begin:.3f}", kind, *(whom if isinstance(whom, tuple) else [whom]), flush=True)

    def close(self):
        self._filter.close()


def main(daemon, rounds, seed):
    os.nice(-10)
    storm, due = Storm(int(daemon), int(seed)), now()
    for _ in range(int(rounds)):
        storm.round()
        due = max(due + PAUSE_SECONDS, now())
        time.sleep(max(due - now(), 0))
    storm.close()


main(*sys.argv[1:])
