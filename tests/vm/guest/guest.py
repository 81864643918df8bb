# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests do in the machine: configure the service, look at it, listen to the broker."""

import base64
import json
import shlex
import time

UNIT = "nightlightd.service"
CONFIG = "/etc/nightlightd/nightlightd.conf"
# Whatever is waited for takes a few seconds, on an emulated CPU that others slow down.
WAIT_SECONDS = 90


class Guest:
    def __init__(self, machine):
        self.machine = machine
        self.run = machine.run

    # --- files ---------------------------------------------------------------------------------

    def write(self, path, content, mode=0o644):
        """Writes a file, with the directories on its way."""
        if isinstance(content, str):
            content = content.encode()
        path = shlex.quote(str(path))
        self.run(f"mkdir -p $(dirname {path}) && base64 -d >{path} <<'END'\n"
                 f"{base64.encodebytes(content).decode()}END\nchmod {mode:o} {path}")

    def read(self, path):
        return self.run(f"cat {shlex.quote(str(path))}")

    def configure(self, text):
        self.write(CONFIG, text)

    def drop_in(self, text):
        """Adds to the unit, as `systemctl edit` would."""
        self.write(f"/etc/systemd/system/{UNIT}.d/test.conf", text)
        self.run("systemctl daemon-reload")

    # --- the service ---------------------------------------------------------------------------

    def start(self, config=None):
        """Returns once systemd calls it started."""
        if config:
            self.configure(config)
        self.run("systemctl start nightlightd")

    def unit(self, name, unit=UNIT):
        """One of the unit's properties, as text."""
        return self.run(f"systemctl show -P {name} {unit}")

    def is_active(self):
        return self.unit("ActiveState") == "active"

    def journal(self, unit=UNIT):
        """The unit's lines since the machine booted, as dicts of their fields."""
        lines = self.run(f"journalctl -b -q -o json --output-fields= -u {unit}").splitlines()
        return [json.loads(line) for line in lines]

    def logged(self, text):
        """The first line that holds the text, as its fields, or None."""
        for entry in self.journal():
            if text in str(entry.get("MESSAGE", "")):
                return entry
        return None

    def wait_logged(self, text):
        return self.wait(lambda: self.logged(text), f"'{text}' in the journal")

    def wait(self, condition, what, seconds=WAIT_SECONDS):
        """Calls condition() until it returns something true, which is returned."""
        end = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            assert time.monotonic() < end, f"waited {seconds} s in vain for {what}"
            time.sleep(0.2)

    # --- the broker ----------------------------------------------------------------------------

    def start_broker(self):
        """Debian's own mosquitto, on port 1883 of localhost."""
        self.run("systemctl start mosquitto")

    def listen(self):
        """All that the broker sends to anybody, from now on."""
        return Listener(self)

    def publish(self, topic, message):
        self.run(f"mosquitto_pub -q 1 -t {topic} -m {shlex.quote(json.dumps(message))}")


class Listener:
    """A mosquitto_sub in the guest that remembers what it received."""

    PATH = "/run/listener"

    def __init__(self, guest):
        self.guest = guest
        # With -d it says when the broker has confirmed its subscription.
        guest.run(f"stdbuf -oL mosquitto_sub -d -q 1 -F '%t %p' -t '#' >{self.PATH} 2>&1 &\n"
                  f"until grep -q '^Subscribed' {self.PATH}; do kill -0 $! || exit; sleep 0.1; done")

    def mark(self):
        """How many lines there are now, for the since of what follows."""
        return int(self.guest.run(f"wc -l <{self.PATH}"))

    def messages(self, topic, since=0):
        """What came on the topic, parsed."""
        lines = self.guest.run(f"tail -n +{since + 1} {self.PATH}").splitlines()
        return [json.loads(line[len(topic) + 1:]) for line in lines if line.startswith(topic + " {")]

    def wait(self, topic, wanted, since=0):
        """The first message on the topic that `wanted` (a dict, or a function) is true of."""

        def find():
            for message in self.messages(topic, since):
                if wanted(message) if callable(wanted) else message == wanted:
                    return message
            return None

        return self.guest.wait(find, f"{wanted} on {topic}")
