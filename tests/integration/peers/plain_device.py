# SPDX-License-Identifier: LGPL-2.1-or-later
"""A device as a tutorial would write it: plain_device.py HOST PORT ID LIGHT_FILE."""

import json
import sys
import time

import paho.mqtt.client as mqtt

host, port, device_id, light_file = sys.argv[1:]


def on_connect(client, userdata, flags, rc):
    client.subscribe(device_id + "/commands")


def on_message(client, userdata, message):
    command = json.loads(message.payload)
    print("LED on" if command["led_on"] else "LED off", flush=True)


if hasattr(mqtt, "CallbackAPIVersion"):  # paho 2
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1)
else:
    client = mqtt.Client()
client.on_connect = on_connect
client.on_message = on_message
client.connect(host, int(port))
client.loop_start()

while True:
    time.sleep(0.2)
    with open(light_file) as sensor:
        light = int(sensor.read())
    client.publish(device_id + "/telemetry", json.dumps({"light": light}))
