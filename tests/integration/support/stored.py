# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is in a daemon's queue.db, looked at in a copy; and what follows from it."""

import json
import pathlib
import shutil
import sqlite3
import tempfile
import time
import uuid

from support.wait import DEADLINE, wait_until

SEQ_BITS = 42
ENDS = ("filtered", "merged", "expired", "dropped", "rejected", "acked")


class Stored:
    """
    A copy of queue.db with its log, which must be sound and its counters true.

    checks=False while a daemon is at work on them: the one may be copied before a checkpoint and the
    other after it, and then they are copied again.
    """

    def __init__(self, directory, checks=True):
        end = time.monotonic() + DEADLINE
        while True:
            self.streams = {}  # name: its row, with what the row itself does not count
            self.messages = {}  # (stream's name, seq): payload
            self.runs = {}  # likewise: under which run it has its number, as in a message's property boot
            self.records = {}  # (space, key): value
            try:
                self._read_copy(directory, checks)
                return
            except (sqlite3.DatabaseError, FileNotFoundError, KeyError):
                if checks or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _read_copy(self, directory, checks):
        with tempfile.TemporaryDirectory() as copy:
            for name in ("queue.db", "queue.db-wal"):
                if (directory / name).exists():
                    shutil.copy(directory / name, copy)
            path = pathlib.Path(copy) / "queue.db"
            if path.exists() and path.stat().st_size:
                self._read(path, checks)

    def _read(self, path, checks):
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        try:
            if not database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'message'").fetchone():
                return
            if checks:
                assert [row[0] for row in database.execute("PRAGMA integrity_check")] == ["ok"]
            names = {}
            for row in database.execute("SELECT * FROM stream"):
                names[row["id"]] = row["name"]
                self.streams[row["name"]] = dict(row)
            counts = {name: [0, 0] for name in self.streams}
            runs = {row["id"]: row["uuid"].hex() for row in database.execute("SELECT id, uuid FROM boot")}
            for row in database.execute("SELECT id, boot, n_samples, subject, payload FROM message"):
                name, seq = names[row["id"] >> SEQ_BITS], row["id"] & ((1 << SEQ_BITS) - 1)
                self.messages[name, seq] = row["payload"]
                self.runs[name, seq] = runs[row["boot"]]
                counts[name][0] += 1
                counts[name][1] += row["n_samples"]
                stream = self.streams[name]
                if seq > stream.get("counted_seq", seq):
                    stream["n_messages"] += 1
                    stream["n_samples"] += row["n_samples"]
                    stream["sampled"] += row["n_samples"]
                    stream["bytes"] += len(row["payload"]) + len(row["subject"] or "") + 48
            if database.execute("SELECT 1 FROM sqlite_schema WHERE name = 'record'").fetchone():
                for row in database.execute("SELECT * FROM record"):
                    self.records[row["space"], row["key"]] = row["value"]
        finally:
            database.close()
        if checks:
            self._check(counts)

    def _check(self, counts):
        for name, row in self.streams.items():
            assert [row["n_messages"], row["n_samples"]] == counts[name], (name, row, counts)
            assert row["sampled"] - sum(row[end] for end in ENDS) == row["n_samples"], (name, row)

    def seqs(self, stream):
        return sorted(seq for name, seq in self.messages if name == stream)


def _run_to_go_on(database, boot, begin):
    """
    The id of the run that the next daemon on this machine goes on with: the one that has stopped cleanly,
    which has no row if it never had a message on disk. Where none has, one of the test's own.
    """
    mark = database.execute("SELECT value FROM record WHERE space = '$run' AND key = 'clean'").fetchone()
    run, of_boot = map(bytes.fromhex, mark[0].split()) if mark else (boot, boot)
    if of_boot != boot:
        run = boot
    row = database.execute("SELECT id FROM boot WHERE uuid = ?", [run]).fetchone()
    if row:
        return row[0]
    insert = "INSERT INTO boot (uuid, kernel, begin_wall_usec) VALUES (?, ?, ?)"
    return database.execute(insert, [run, boot, begin]).lastrowid


def fill(directory, stream, count, payload):
    """Puts so many messages more behind what a stream has; the payload says which with %d."""
    database = sqlite3.connect(directory / "queue.db")
    with database:
        number, first = database.execute(
            "SELECT id, max(reserved_seq, 1) FROM stream WHERE name = ?", [stream]
        ).fetchone()
        mono = int(time.clock_gettime(time.CLOCK_BOOTTIME) * 1e6)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot_id:
            boot = uuid.UUID(boot_id.read().strip()).bytes
        begin = int(time.time() * 1e6) - mono
        run = _run_to_go_on(database, boot, begin)
        rows = (
            (number << SEQ_BITS | first + n, run, mono - count + n, 1, None, (payload % n).encode())
            for n in range(count)
        )
        database.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.execute(
            "UPDATE stream SET counted_seq = ?1 + ?2 - 1, reserved_seq = ?1 + ?2, sampled = sampled + ?2,"
            " n_messages = n_messages + ?2,"
            " n_samples = n_samples + ?2, bytes = bytes + (SELECT sum(length(payload) + 48) FROM message"
            " WHERE id BETWEEN ?3 << 42 | ?1 AND ?3 << 42 | ?1 + ?2) WHERE id = ?3",
            [first, count, number],
        )
    database.close()


def damage(directory, table):
    """Overwrites the root page of a table."""
    database = sqlite3.connect(directory / "queue.db")
    page = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table]).fetchone()[0]
    size = database.execute("PRAGMA page_size").fetchone()[0]
    database.close()
    with open(directory / "queue.db", "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xee" * size)


def make_older(directory):
    """As the first version of the tables was: without records, and each stream's row counts all."""
    counted = Stored(directory).streams
    database = sqlite3.connect(directory / "queue.db")
    with database:
        for row in counted.values():
            database.execute(
                "UPDATE stream SET sampled = ?, n_messages = ?, n_samples = ?, bytes = ? WHERE id = ?",
                [row[column] for column in ("sampled", "n_messages", "n_samples", "bytes", "id")],
            )
    database.executescript(
        "DROP TABLE record; ALTER TABLE stream DROP COLUMN counted_seq;"
        "ALTER TABLE boot DROP COLUMN kernel; PRAGMA user_version = 1;"
    )
    database.close()


def without_time(payload):
    value = json.loads(payload)
    value.pop("time", None)
    return value


class Account:
    """
    What one device's streams owe and have paid, over all its lives. Each stream's topic is
    ID/STREAM. every: the streams that lose nothing; ordered: those of them that keep their order;
    latest: those that only go forward. A number is used once in a run.
    """

    def __init__(self, witness, device, every=(), ordered=(), latest=()):
        self.witness, self.device = witness, device
        self.every, self.ordered, self.latest = every, ordered, latest
        self.committed = {}  # (stream, run, seq): payload
        self.runs = []  # as they came
        self.loses_runs = False  # what is found in a damaged file has its number, but no run any more
        self.kills = 0

    def look(self, directory):
        """After each death of the daemon; all that is found committed is owed."""
        stored = Stored(directory)
        for (name, seq), payload in stored.messages.items():
            key = name, stored.runs[name, seq], seq
            known = self.committed.setdefault(key, payload)
            assert known == payload, f"{key} was {known}, and is {payload}"
        self._note_runs(stored.runs.values())
        return stored

    def _note_runs(self, more=()):
        """Of those that are new now, all are of the life that has just ended."""
        for run in [*(each.boot for each in list(self.witness.arrivals) if each.boot), *more]:
            if run not in self.runs:
                self.runs.append(run)

    def _place(self, each):
        """Later messages have higher ones. Where several runs are new at once, their order is not known."""
        return 0 if self.loses_runs else self.runs.index(each.boot), each.seq

    def arrivals(self, stream):
        return [each for each in self.witness.of(f"{self.device}/{stream}") if not each.retain]

    def missing(self):
        arrived = {
            stream: {(not self.loses_runs and each.boot, each.seq) for each in self.arrivals(stream)}
            for stream in self.every
        }
        return sorted(
            (name, run, seq)
            for name, run, seq in self.committed
            if name in arrived and (not self.loses_runs and run, seq) not in arrived[name]
        )

    def wait_paid(self, timeout=2 * DEADLINE):
        wait_until(lambda: not self.missing(), lambda: f"what was committed: {self.missing()[:20]}", timeout)

    def check(self):
        self._note_runs()
        for stream in self.every + self.latest:
            self._check_numbers(stream)
        for stream in self.ordered:
            self._check_order(stream)
        for stream in self.latest:
            arrivals = self.arrivals(stream)
            for n, (one, other) in enumerate(zip(arrivals, arrivals[1:])):
                back = f"{stream} went back: {arrivals[max(0, n - 5) : n + 5]}"
                assert self._place(one) <= self._place(other), back

    def _check_numbers(self, stream):
        """
        A number of a run is one payload, and there is no gap but where a crash took what was not committed.
        """
        payloads = {}
        for each in self.arrivals(stream):
            value = payloads.setdefault((each.boot, each.seq), without_time(each.payload))
            assert value == without_time(each.payload), f"{stream} {each.seq}: {value} and {each}"
            stored = self.committed.get((stream, each.boot, each.seq))
            assert stored is None or json.loads(stored) == value, f"{stream} {each.seq}: {stored}, {each}"
        if stream in self.every:
            seqs = sorted({seq for _, seq in payloads})
            gaps = [pair for pair in zip(seqs, seqs[1:]) if pair[0] + 1 != pair[1]]
            assert len(gaps) <= self.kills, f"{stream}: {gaps} with {self.kills} kills"

    def _check_order(self, stream):
        seen, last = set(), (-1, 0)
        for each in self.arrivals(stream):
            place = self._place(each)
            assert place in seen or place > last, f"{stream}: {place} for the first time after {last}"
            seen.add(place)
            last = max(last, place)

    def check_ledger(self, directory, n_dropped=None):
        """
        After a clean stop: what the status said last balances, and the disk agrees. n_dropped: by stream,
        where any were.
        """
        stored = self.look(directory)
        status = self.witness.objects(f"{self.device}/status")[-1]
        assert status["status"] == "offline" and "streams" in status, status
        for stream in self.every + self.latest:
            said, row = status["streams"][stream], stored.streams[stream]
            waiting = said["queued"] + said["in_flight"]
            assert said["sampled"] == sum(said[end] for end in ENDS) + waiting, (stream, said)
            # Samples are taken, and acknowledgements come, until the very end.
            assert all(row[name] >= said[name] for name in ("sampled", *ENDS)), (stream, said, row)
            assert row["sampled"] - said["sampled"] < 100, (stream, said, row)
            for name in ("filtered", "expired", "dropped", "rejected"):
                expected = (n_dropped or {}).get(stream, 0) if name == "dropped" else 0
                assert row[name] == said[name] == expected, (stream, name, said, row)
            if stream in self.every:
                assert row["acked"] <= len(self.arrivals(stream)), (stream, row)
        return stored
