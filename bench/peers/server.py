# SPDX-License-Identifier: LGPL-2.1-or-later
"""The server that one would write in Python with paho. bench/server compares with it.

server.py PORT: with paho's thread, as its tutorials do; server.py PORT forever: on the main thread.
"""

import json
import signal
import socket
import sys

import paho.mqtt.client as mqtt


def on_connect(client, userdata, flags, rc):
    client.subscribe("+/telemetry")


def on_message(client, userdata, message):
    device = message.topic.split("/")[0]
    telemetry = json.loads(message.payload)
    if "light" in telemetry:
        command = {"led_on": telemetry["light"] < 300}
        client.publish(f"{device}/commands", json.dumps(command))


def on_socket_open(client, userdata, sock):
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


client = mqtt.Client()
client.on_connect = on_connect
client.on_message = on_message
client.on_socket_open = on_socket_open
client.connect("127.0.0.1", int(sys.argv[1]))
if sys.argv[2:] == ["forever"]:
    client.loop_forever()
client.loop_start()
signal.pause()
