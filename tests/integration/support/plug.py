# SPDX-License-Identifier: LGPL-2.1-or-later
"""
A disk whose plug is pulled, without a virtual machine: every write and every flush that a file
system sends to it is recorded, and what the disk may have held at any moment is put together again
from that.

    with Recording(directory, mount_point) as recording:
        ...                              # write to mount_point; recording.mark({...}) now and then
    for cut in recording.cuts(100, random.Random(seed)):
        cut.read(into)                   # the files, as they are found after the power cut

A disk keeps what was written before its last flush. Of what was written since, it keeps some writes
and not others, in whatever order, and some only in part: each sector for itself.

The file system is ext4 on a loop device, on a file that qemu-storage-daemon exports by FUSE and
records in the format of the kernel's dm-log-writes. It takes root.
"""

import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections import namedtuple

from support.wait import wait_until

FILE_SYSTEM_BYTES = 30 << 20
# What is said in the recording is written behind the file system.
MARK_OFFSET = FILE_SYSTEM_BYTES + (1 << 20)
DISK_BYTES = FILE_SYSTEM_BYTES + (2 << 20)
SECTOR_BYTES = 512
MARK_BYTES = 4096
MARK_INTERVAL_SECONDS = 0.01

# Linux, drivers/md/dm-log-writes.c.
LOG_MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD = 1, 2, 4
SUPERBLOCK = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")

Write = namedtuple("Write", "offset flags size data")

# How much of what was not flushed is there after a cut.
LUCKS = ("none", "some", "torn", "all")


def why_not():
    """Why it cannot be had here; empty if it can."""
    if os.geteuid() != 0:
        return "it takes root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return f"there is no {path}"
    for program in ("qemu-storage-daemon", "mke2fs", "losetup"):
        if not shutil.which(program):
            return f"{program} is not installed"
    return ""


def call(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


class Recording:
    """what(): a dict for JSON, what is known to have happened; it is marked every few milliseconds."""

    def __init__(self, directory, mount_point, what):
        directory.mkdir()
        self._directory, self._mount_point, self._what = directory, mount_point, what
        self._over = threading.Event()
        self._undo = []
        self._thread = threading.Thread(target=self._mark)

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self._end()

    def _start(self):
        disk, log, export = (self._directory / name for name in ("disk", "log", "export"))
        for path in (log, export):
            path.touch()
        with open(disk, "wb") as file:
            file.truncate(DISK_BYTES)
        make_file_system(disk)
        self._before = disk.read_bytes()
        server = subprocess.Popen(
            ["qemu-storage-daemon",
             "--blockdev", f"driver=file,node-name=disk,filename={disk}",
             "--blockdev", f"driver=file,node-name=log,filename={log}",
             "--blockdev", f"driver=blklogwrites,node-name=both,file=disk,log=log,log-sector-size={SECTOR_BYTES}",
             "--export", f"type=fuse,id=export,node-name=both,mountpoint={export},writable=on"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self._undo.append(lambda: (server.terminate(), server.wait(30)))
        wait_until(lambda: os.path.ismount(export), "the export of qemu-storage-daemon")
        loop = call("losetup", "--find", "--show", export)
        self._undo.append(lambda: call("losetup", "--detach", loop))
        call("mount", loop, self._mount_point)
        self._undo.append(lambda: call("umount", self._mount_point))
        self._marks = open(export, "r+b", buffering=0)
        self._undo.append(self._marks.close)
        self._thread.start()

    def _end(self):
        while self._undo:
            self._undo.pop()()

    def _mark(self):
        # What is said was true before it was written: a cut behind it must account for it.
        while not self._over.is_set():
            data = json.dumps(self._what()).encode().ljust(MARK_BYTES, b"\0")
            assert len(data) == MARK_BYTES
            os.pwrite(self._marks.fileno(), data, MARK_OFFSET)
            time.sleep(MARK_INTERVAL_SECONDS)

    def cuts(self, count, choice):
        """So many Cuts, at random moments after the first mark; in their order."""
        writes = list(Log(self._directory / "log").more())
        first = next(n for n, write in enumerate(writes) if write.offset == MARK_OFFSET)
        moments = [n for n in range(first + 1, len(writes)) if writes[n].offset != MARK_OFFSET]
        moments = iter(sorted(choice.sample(moments, count)))
        disk, said = Disk(self._before), None
        moment = next(moments)
        for n, write in enumerate(writes):
            if n == moment:
                luck = choice.choice(LUCKS)
                yield Cut(n, said, luck, disk.after_cut(luck, choice), len(disk.volatile))
                moment = next(moments, None)
            if write.offset == MARK_OFFSET:
                said = json.loads(write.data.rstrip(b"\0"))
                continue
            disk.take(write)


def make_file_system(path):
    """On the first FILE_SYSTEM_BYTES of a file that is there."""
    call("mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0",
         path, f"{FILE_SYSTEM_BYTES >> 10}K")  # fmt: skip


class Log:
    """What blklogwrites writes."""

    def __init__(self, path):
        self._path, self._at = path, 0

    def more(self):
        """The Writes since it was asked last, as far as they are whole."""
        with open(self._path, "rb") as file:
            file.seek(self._at)
            data = file.read()
        if self._at == 0 and len(data) >= SECTOR_BYTES:
            magic, _version, _count, sector = SUPERBLOCK.unpack_from(data)
            if not magic:  # the first flush writes it
                return
            assert (magic, sector) == (LOG_MAGIC, SECTOR_BYTES)
            self._at = SECTOR_BYTES
            data = data[SECTOR_BYTES:]
        at = 0
        while at + SECTOR_BYTES <= len(data):
            first, count, flags, _ = ENTRY.unpack_from(data, at)
            size = 0 if flags & DISCARD else count * SECTOR_BYTES
            begin, end = at + SECTOR_BYTES, at + SECTOR_BYTES + size
            if (not count and not flags) or end > len(data):
                return
            self._at += end - at
            at = end
            yield Write(first * SECTOR_BYTES, flags, count * SECTOR_BYTES, data[begin:end])


class Disk:
    """What is on a disk for good, and what it has been sent since its last flush."""

    def __init__(self, data):
        self._data, self.volatile = bytearray(data), []

    def take(self, write):
        if write.flags & FLUSH:
            for each in self.volatile:
                put(self._data, each)
            self.volatile = []
        if write.flags & FUA:
            put(self._data, write)
        elif write.size:
            self.volatile.append(write)

    def after_cut(self, luck, choice):
        """What is on it then, with what it happened to write of what was volatile."""
        data = bytearray(self._data)
        for write in self.volatile:
            if luck == "torn" and write.data and choice.random() < 0.5:
                for at in range(0, write.size, SECTOR_BYTES):
                    if choice.random() < 0.5:
                        place = write.offset + at
                        data[place : place + SECTOR_BYTES] = write.data[at : at + SECTOR_BYTES]
            elif luck == "all" or (luck != "none" and choice.random() < 0.5):
                put(data, write)
        return data


def put(data, write):
    data[write.offset : write.offset + write.size] = write.data or bytes(write.size)


def read_files(data, into):
    """Mounts what is on a disk, which must do, and copies its files into a new directory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        image, mount_point = f"{directory}/disk", f"{directory}/files"
        with open(image, "wb") as file:
            file.write(data)
        os.mkdir(mount_point)
        call("mount", "-o", "loop", image, mount_point)
        try:
            shutil.copytree(mount_point, into, ignore=shutil.ignore_patterns("lost+found", "reserve"))
        finally:
            call("umount", mount_point)


class Cut:
    """One power cut: what had been said before it, and what the disk holds after it."""

    def __init__(self, moment, said, luck, disk, n_volatile):
        self.said = said
        self._disk = disk
        self._name = f"the cut before write {moment} ({luck} of {n_volatile} kept)"

    def __str__(self):
        return self._name

    def read(self, into):
        read_files(self._disk, into)
