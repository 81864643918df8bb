# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device that is killed and cut off, all around it, and the account of what it owes."""

import time

from support import configs
from support.proxy import Proxy
from support.stored import Account
from support.witness import LOSSLESS, Witness

STREAMS = ("ordered", "live", "latest")

POLICIES = """
[queue]
durability = {durability}
commit_interval = {commit_interval}

[stream ordered]
topic = {{id}}/ordered
order = in-order

[stream live]
topic = {{id}}/live

[stream latest]
topic = {{id}}/latest
keep = latest
"""

# Nine digits of noise: no two samples are the same, so a number that is used twice shows.
SENSOR = """
[sensor {name}]
driver = sim
wave = noise
min = 0
max = 1
decimals = 9
interval = {interval}
stream = {stream}
"""


def base(port):
    """
    A device that says the numbers of its messages: MQTT 5, come what may. Where it may choose, what
    hangs up before it answers is taken for a broker that knows no 5.
    """
    return configs.base(port, "device", broker="protocol = 5")


def config(port, durability="batched", interval="40ms", commit_interval="100ms", measures=STREAMS, more=""):
    quiet = base(port).replace("[daemon]", "[daemon]\nlog_level = notice")
    sensors = [SENSOR.format(name=f"{stream}1", stream=stream, interval=interval) for stream in measures]
    policies = POLICIES.format(durability=durability, commit_interval=commit_interval)
    return quiet + policies + "".join(sensors) + more


class Line:
    """A broker, a witness of what arrives there, and the network in between; port is its near end."""

    def __init__(self, start_broker, device="lamp1"):
        self.broker = start_broker(LOSSLESS)
        self.proxy = Proxy(self.broker.port)
        self.witness = Witness(self.broker.port, f"{device}/#")
        self.port = self.proxy.port

    def close(self):
        self.proxy.close()
        self.witness.close()


class World(Line):
    """A Line with such a device, and the account of it."""

    def __init__(self, make_daemon, start_broker, **settings):
        super().__init__(start_broker)
        self._started = None  # where the log began
        self.daemon = make_daemon("lamp1", config(self.port, **settings))
        self.account = Account(
            self.witness, "lamp1", every=("ordered", "live"), ordered=("ordered",), latest=("latest",)
        )

    def start_daemon(self):
        self._started = self.daemon.mark() if self._started is not None else 0
        self.daemon.start()

    def wait_up(self):
        self.daemon.wait_log("is up", self._started)

    def stop_daemon(self):
        self.wait_up()  # else it has no handler for the signal yet
        self.daemon.stop()

    def kill_daemon(self):
        self.daemon.kill()
        self.account.kills += 1
        self.account.look(self.daemon.state_directory)
        self.start_daemon()

    def kill_broker(self):
        """Nobody may publish before the witness listens again."""
        mark = self.witness.mark()
        self.proxy.refuse = True
        self.broker.kill()
        self.proxy.cut(refuse=True)
        self.broker.start()
        self.witness.wait_subscribed(mark)
        self.proxy.mend()

    def settle(self):
        """All is well again: what is owed arrives, and a clean stop leaves true books."""
        self.proxy.mend()
        for stream in STREAMS:
            self.witness.wait(f"lamp1/{stream}", since=len(self.witness.arrivals))
        self.account.wait_paid()
        self.stop_daemon()
        time.sleep(0.1)  # the witness reads the last of it
        self.account.check()
        self.account.check_ledger(self.daemon.state_directory)
