# SPDX-License-Identifier: LGPL-2.1-or-later
"""The other end of the broker: a paho client that remembers what it received."""

import json
import threading
import time
from collections import namedtuple

import paho.mqtt.client as mqtt

from support.wait import DEADLINE

Message = namedtuple("Message", "topic payload qos retain received properties")


def new_client(client_id="", protocol=mqtt.MQTTv311):
    """A client with paho 1's callbacks, whichever paho it is: Debian 12 has 1.6, Debian 13 has 2."""
    version = [mqtt.CallbackAPIVersion.VERSION1] if hasattr(mqtt, "CallbackAPIVersion") else []
    return mqtt.Client(*version, client_id=client_id, protocol=protocol)


class Peer:
    def __init__(self, port, *filters, host="127.0.0.1", client_id="", setup=None, protocol=mqtt.MQTTv5):
        self.messages = []
        self._changed = threading.Condition()
        self._client = new_client(client_id, protocol=protocol)
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_connect = self._on_connect
        self._filters = filters
        self._subscribed = 0
        self._connected = False
        if setup:
            setup(self._client)
        self._client.reconnect_delay_set(0.1, 0.3)
        self._client.connect(host, port)
        self._client.loop_start()
        self._wait(lambda: self._connected, "a connection of the test's own")
        self._wait(lambda: self._subscribed >= len(filters), "the test's own subscriptions")

    # Subscribes anew on each connect, so that a peer outlives a restart of the broker.
    def _on_connect(self, client, *_):
        with self._changed:
            self._connected = True
            self._changed.notify_all()
        for each in self._filters:
            client.subscribe(each, 1)

    def _on_subscribe(self, *_):
        with self._changed:
            self._subscribed += 1
            self._changed.notify_all()

    def _on_message(self, _client, _userdata, message):
        with self._changed:
            self.messages.append(
                Message(message.topic, message.payload, message.qos, message.retain, time.monotonic(), getattr(message, "properties", None))
            )
            self._changed.notify_all()

    def _wait(self, condition, what, timeout=DEADLINE):
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                what = what() if callable(what) else what
                raise AssertionError(f"waited {timeout:g} s in vain for {what}")

    def publish(self, topic, payload, qos=1, retain=False, wait=True):
        """A dict goes as JSON, bytes and text as they are. Waits for the broker's acknowledgement,
        unless it may come when there is a broker again."""
        if isinstance(payload, dict):
            payload = json.dumps(payload)
        info = self._client.publish(topic, payload, qos, retain)
        if not wait:
            return
        info.wait_for_publish(DEADLINE)
        assert info.is_published(), f"no acknowledgement for {topic}"

    def mark(self):
        """How many messages there are now, for the since of what follows."""
        with self._changed:
            return len(self.messages)

    def received(self, topic, since=0):
        with self._changed:
            return [message for message in self.messages[since:] if message.topic == topic]

    def objects(self, topic, since=0):
        """Payloads as JSON; NaN and the like are errors."""
        return [loads(message.payload) for message in self.received(topic, since)]

    def wait(self, topic, wanted=None, since=0, count=1, timeout=DEADLINE):
        """
        The count-th message on the topic, as JSON, that is wanted: a dict that it equals, with or
        without its envelope, a function that is true of it, or anything.
        """

        def fits(value):
            return wanted is None or (wanted(value) if callable(wanted) else wanted in (value, plain(value)))

        def matching():
            return [value for value in self.objects(topic, since) if fits(value)]

        self._wait(
            lambda: len(matching()) >= count,
            lambda: f"{count} of {wanted} on {topic}; there are {self.objects(topic, since)[-20:]}",
            timeout,
        )
        return matching()[count - 1]

    def wait_raw(self, topic, since=0, count=1, timeout=DEADLINE):
        self._wait(
            lambda: len(self.received(topic, since)) >= count,
            lambda: f"{count} messages on {topic}; all: {self.messages[since:][-20:]}",
            timeout,
        )
        return self.received(topic, since)[count - 1]

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


def loads(payload):
    def refuse(constant):
        raise ValueError(f"{constant} in {payload!r}")

    return json.loads(payload, parse_constant=refuse)


def plain(command):
    """A command without its envelope."""
    if not isinstance(command, dict):
        return command
    return {key: value for key, value in command.items() if not key.startswith("$")}
