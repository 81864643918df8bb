# SPDX-License-Identifier: LGPL-2.1-or-later
"""A server as a tutorial would write it: plain_server.py HOST PORT."""

import json
import sys

import paho.mqtt.client as mqtt

host, port = sys.argv[1:]


def on_connect(client, userdata, flags, rc):
    client.subscribe("+/telemetry")


def on_message(client, userdata, message):
    device_id = message.topic.split("/")[0]
    telemetry = json.loads(message.payload)
    command = {"led_on": telemetry["light"] < 300}
    client.publish(device_id + "/commands", json.dumps(command))


if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1)
else:
    client = mqtt.Client()
client.on_connect = on_connect
client.on_message = on_message
client.connect(host, int(port))
client.loop_forever()
