# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Runs in the guest: notes the beginning and the end of every child of a process, by the kernel's own account
(the events of linux/cn_proc.h), which misses none however short it lived.

    lives.py PID    # until SIGTERM

Writes lines: "begin TIME PID", for those that are there already too, and "end TIME PID STATUS", with TIME
since boot and STATUS as of waitpid(2). "ready" when it has begun.
"""

import os
import signal
import socket
import struct
import sys
import time

# linux/netlink.h, linux/connector.h, linux/cn_proc.h
NETLINK_CONNECTOR, NLMSG_DONE = 11, 3
CN_IDX_PROC, CN_VAL_PROC, PROC_CN_MCAST_LISTEN = 1, 1, 1
FORK, EXIT = 0x00000001, 0x80000000
HEADER, MESSAGE, EVENT = struct.Struct("=IHHII"), struct.Struct("=IIIIHH"), struct.Struct("=IIQ")
SO_RCVBUFFORCE = 33
BUFFER_SIZE = 16 << 20


def subscribe():
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
    events.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_SIZE)
    events.bind((0, CN_IDX_PROC))
    ask = MESSAGE.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", PROC_CN_MCAST_LISTEN)
    events.send(HEADER.pack(HEADER.size + len(ask), NLMSG_DONE, 0, 0, os.getpid()) + ask)
    return events


def note(what, *about):
    print(what, f"{time.clock_gettime(time.CLOCK_BOOTTIME):.3f}", *about, flush=True)


def main(parent):
    parent = int(parent)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    events = subscribe()
    with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
        children = {int(pid) for pid in file.read().split()}
    for pid in children:
        note("begin", pid)
    print("ready", flush=True)
    while True:
        data = events.recv(65536)  # were any lost, that would be an error
        at = HEADER.size + MESSAGE.size + EVENT.size
        what = EVENT.unpack_from(data, HEADER.size + MESSAGE.size)[0]
        if what == FORK:
            _, by, pid, process = struct.unpack_from("=IIII", data, at)
            if by == parent and pid == process and pid not in children:
                children.add(pid)
                note("begin", pid)
        elif what == EXIT:
            pid, process, status = struct.unpack_from("=III", data, at)
            if pid == process and pid in children:
                children.remove(pid)
                note("end", pid, status)


main(*sys.argv[1:])
