# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configurations that many tests share, as text: what a user would write, with shorter times."""

RULE = """
[rule nightlight]
when = light < 300
until = light > 320
then = {"led_on": true}
else = {"led_on": false}
"""


def base(port, role="combined", name="lamp1", broker=""):
    """[daemon] and [broker]; broker holds further lines of the latter."""
    return f"""
[daemon]
role = {role}
id = {name}

[broker]
host = 127.0.0.1
port = {port}
reconnect_min = 100ms
reconnect_max = 300ms
{broker}
"""


def sensor(name, path, interval="100ms", more=""):
    return f"""
[sensor {name}]
driver = file
path = {path}
interval = {interval}
{more}
"""


def actuator(name, path, more=""):
    return f"""
[actuator {name}]
driver = file
path = {path}
{more}
"""


def device(port, light, led, **keywords):
    return base(port, "device", **keywords) + sensor("light", light) + actuator("led_on", led)


def server(port, name="server1", rule=RULE, **keywords):
    return base(port, "server", name, **keywords) + rule


def nightlight(port, light, led, rule=RULE, **keywords):
    """The first user's story, in the combined role."""
    return base(port, **keywords) + sensor("light", light) + actuator("led_on", led) + rule
