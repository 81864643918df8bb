# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A connector without a daemon: the test speaks its frames (src/core/frame.h) over the pair of sockets.

    connector = Connector(tmp_path, port, client_id="c1", protocol=5)
    connector.publish(1, "a/b", b"{}")
    connector.take()                    # the records that have come: [(kind, id, code, text)]
"""

import os
import pathlib
import signal
import socket
import struct
import subprocess

from support.daemon import binary, daemon_env

VERSION = 1
OPTIONS, PUBLISH, SUBSCRIBE, STOP, PING = range(1, 6)
REACHED, CONNECTED, MESSAGE, ACKNOWLEDGED, SUBSCRIBED, DROPPED, FAILED, PONG = range(6, 14)
MAX_RECORDS = 32


def program():
    return pathlib.Path(binary()).with_name("connector")


def u32(value):
    return struct.pack("=I", value)


def u64(value):
    return struct.pack("=Q", value)


def blob(value):
    return u32(0xFFFFFFFF) if value is None else u32(len(value)) + value


def text(value):
    return blob(None if value is None else value.encode() + b"\0")


def record(kind, body=b"", flags=0):
    return struct.pack("=IBBH", len(body), kind, flags, 0) + body


def message(topic, payload, qos=1, retain=0, correlation=None):
    return u32(qos) + u32(retain) + text(topic) + text(None) + blob(correlation) + u32(0) + blob(payload)


def options(port, client_id, protocol=5, hosts=("127.0.0.1",), keepalive=60, will=None, max_message=256 << 10,
            max_rate=0, version=VERSION, parent=None, username=None, ca_file=None):  # fmt: skip
    topic, payload = will or (None, None)
    tls = [u64(1 if ca_file else 0), text(ca_file), *[text(None)] * 5]
    return b"".join((
        u32(version), u64(parent or os.getpid()), u64(len(hosts)), *map(text, hosts), u64(port), u64(0),
        u64(protocol), u64(0), text(client_id), u64(keepalive), u64(0), text(username), text(None),
        *tls, text(topic), text(payload), u64(65535), u64(max_message), u64(max_rate),
    ))  # fmt: skip


def records(frame):
    """(kind, flags, body) of each record of a frame."""
    at = 0
    while at < len(frame):
        size, kind, flags, zero = struct.unpack_from("=IBBH", frame, at)
        assert zero == 0 and at + 8 + size <= len(frame), "a frame is malformed"
        yield kind, flags, frame[at + 8 : at + 8 + size]
        at += 8 + size


class Connector:
    def __init__(self, directory, port, client_id, begin=True, **more):
        self.directory = directory
        self.pair, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log = open(directory / f"{client_id}.log", "wb+")
        with other:
            self.popen = subprocess.Popen(
                [program()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.log,
                env=daemon_env({}, directory / f"sanitizer.{client_id}"),
                close_fds=False,  # Python's are closed by exec, and 3 is not to be
                preexec_fn=lambda: os.dup2(other.fileno(), 3),
            )
        self.pair.setblocking(False)
        if begin:
            self.send(record(OPTIONS, options(port, client_id, **more)))

    def send(self, *frame):
        try:
            self.pair.send(b"".join(frame))
        except OSError:
            pass  # it has ended, which take() and end() say

    def publish(self, number, topic, payload, qos=1):
        self.send(record(PUBLISH, u32(number) + message(topic, payload, qos)))

    def subscribe(self, number, topic, qos=1):
        self.send(record(SUBSCRIBE, u32(number) + message(topic, b"", qos)))

    def take(self):
        """(kind, body) of the records that have come; None behind them when it has closed its end."""
        found = []
        while True:
            try:
                frame = self.pair.recv(1 << 17)
            except BlockingIOError:
                return found
            except ConnectionResetError:
                continue  # it has not read all that it was sent
            if not frame:
                return found + [None]
            each = [(kind, body) for kind, _, body in records(frame)]
            assert len(each) <= MAX_RECORDS and len(frame) <= 65536
            found += each

    def end(self):
        """Its exit status, once it has ended, and what it said on standard error; else kills it."""
        if self.popen.poll() is None:
            self.popen.kill()
        status = self.popen.wait()
        self.pair.close()
        with self.log as log:
            log.seek(0)
            words = log.read().decode("utf-8", "replace")
        for report in self.directory.glob(f"sanitizer.{self.name()}.*"):
            assert False, report.read_text(errors="replace")
        return status, words

    def name(self):
        return pathlib.Path(self.log.name).stem

    def aborted(self):
        return self.popen.poll() == -signal.SIGABRT
