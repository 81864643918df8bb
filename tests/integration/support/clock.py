# SPDX-License-Identifier: LGPL-2.1-or-later
"""
The time of day as a daemon sees it, which can be set, and whether what the daemon says of times is
right after that. A sensor that counts the seconds since it was opened tells when a sample was taken.
"""

import datetime
import json
import mmap
import struct
import time

from support import preload

# How long before it arrived a message may have been handed over, on a busy machine and through a
# network that hangs.
ON_ITS_WAY_SECONDS = 4
# How far a time may be off: a message waits up to a second for slow sensors.
OFF_SECONDS = 2
# Jumps, in seconds: by NTP, a time zone taken for UTC, an empty battery. The time of day stays within
# so many seconds of the real one.
JUMPS = (5, 60, 3600, 86400, 400 * 86400, 20 * 365 * 86400)
FARTHEST = 24 * 365 * 86400
# From this age on a message says its time in its JSON too.
LATE_SECONDS = 2

SENSOR = """
[sensor seconds]
driver = sim
wave = ramp
max = 1000000
period = 1000000s
decimals = 3
"""


class Clock:
    """What is added to the time of day and to that since boot, in a file that libclockshim.so reads."""

    def __init__(self, path):
        path.write_bytes(bytes(16))
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 16)
        self.env = {"LD_PRELOAD": preload.value("clockshim"), "CLOCKSHIM": str(path)}
        self._settings = [(time.monotonic(), 0.0)]  # since when so much is added
        self._opened = None  # when the sensor was, by time.monotonic()

    def jump(self, choice):
        """Forward or back, by a few seconds or by years."""
        seconds = choice.choice(JUMPS) * choice.choice((-1, 1))
        added = self._settings[-1][1]
        self.set(added + seconds if abs(added + seconds) < FARTHEST else added - seconds)

    def set(self, added):
        """To so many seconds from the real time."""
        self._memory[:8] = struct.pack("=q", int(added * 1e6))
        self._settings.append((time.monotonic(), added))

    def let_pass(self, seconds):
        """So much of the time since boot; what is due by then happens when the daemon next wakes up."""
        self._memory[8:] = struct.pack("=q", int(seconds * 1e6))

    def now(self):
        return time.time() + self._settings[-1][1]

    def text(self, seconds_from_now):
        moment = datetime.datetime.fromtimestamp(self.now() + seconds_from_now, datetime.timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _added_between(self, begin, end):
        """All that was added at some time between these two."""
        ends = [since for since, _ in self._settings[1:]] + [end]
        return [added for (since, added), until in zip(self._settings, ends) if since <= end and until >= begin]

    def check(self, arrival):
        """
        Its time is that of its sample, by the time of day as it was when the message was sent. False
        if that cannot be known, since it came without the sensor's reading.
        """
        value = json.loads(arrival.payload)
        if "seconds" not in value:
            return False
        if self._opened is None:
            self._opened = arrival.received - value["seconds"]
        taken = self._opened + value["seconds"]
        sent = max(taken - OFF_SECONDS, arrival.received - ON_ITS_WAY_SECONDS)
        real = time.time() - time.monotonic() + taken
        said = datetime.datetime.fromisoformat(arrival.time.replace("Z", "+00:00")).timestamp()
        right = [real + added for added in self._added_between(sent, arrival.received)]
        assert any(abs(said - each) < OFF_SECONDS for each in right), (arrival, right, self._settings[-5:])
        assert value.get("time", arrival.time) == arrival.time, arrival
        is_late = arrival.received - taken > LATE_SECONDS + ON_ITS_WAY_SECONDS
        assert "time" in value or not is_late, arrival
        return True
