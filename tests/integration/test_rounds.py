# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Two devices and a server, and everything that can happen to them, in rounds: kill -9 of each, a
broker that restarts, connections that break in the middle of a packet, duplicates, and commands
that make no sense. After each round all that was decided is there, once and in order.

    NIGHTLIGHT_ROUNDS=500 NIGHTLIGHT_ROUNDS_SEED=1 pytest tests/integration/test_rounds.py
"""

import json
import os
import random
import time

import pytest

from support import configs
from support.proxy import Proxy
from support.wait import wait_until

ROUNDS = int(os.environ.get("NIGHTLIGHT_ROUNDS", 0)) or 60
SEED = int(os.environ.get("NIGHTLIGHT_ROUNDS_SEED", 0)) or int(time.time())

RULES = """
[rule raise]
devices = arm1
when = part > 0
then = {"raised": true}
else = {"raised": false}
delivery = ordered

[rule grip]
devices = arm1
when = part > 0
then = {"gripped": true}
else = {"gripped": false}
delivery = ordered

[rule light]
devices = lamp1
when = light < 300
then = {"led_on": true}
else = {"led_on": false}
"""

NONSENSE = [
    b"", b"\xff\xfe", b"[" * 5000, b'{"note": 1}', b'{"$id": "x", "note": "a", "lid": true}', b'{"note": NaN}',
    b'{"$id": "y", "note": "' + b"z" * 70000 + b'"}', b'{"$id": 7, "note": "a"}', b'{"$idd": "a", "note": "a"}',
    b'{"note": "a", "note": "b"}', b'{"$id": "q", "$action": "rm -rf /"}', b'{"$id": "r", "$expires": "soon", "note": "a"}',
]  # fmt: skip


class Effects:
    """What the actuators of a device were set to, a line each, by a program that only appends."""

    def __init__(self, path):
        self.path = path
        path.write_text("")

    def actuator(self, name, kind="bool"):
        script = f"echo {name} \\$1 >> {self.path}"
        return f'\n[actuator {name}]\ndriver = exec\ntype = {kind}\ncommand = /bin/sh -c "{script}" sh\n'

    def mark_start(self):
        with self.path.open("a") as file:
            file.write("start\n")

    def read(self):
        """
        [(name, value), ...]. A start sets an actuator anew to what it was, and a command that kill -9
        has caught in the middle, before its reply was on disk, is carried out once more: neither is
        another effect.
        """
        effects, values, restored = [], {}, {}
        for line in self.path.read_text().splitlines():
            if line == "start":
                restored = dict.fromkeys(values, 2)  # times
                continue
            name, value = line.split(" ", 1)
            history = values.setdefault(name, [])
            n_left = restored.get(name, 0)
            restored[name] = n_left - 1
            if n_left > 0 and value in history[-n_left:]:
                if value != history[-1]:  # to what it was before the one in the middle
                    history.pop()
                    effects.reverse()
                    effects.remove(next(effect for effect in effects if effect[0] == name))
                    effects.reverse()
                continue
            restored.pop(name, None)
            history.append(value)
            effects.append((name, value))
        return effects


class World:
    def __init__(self, broker, make_daemon, connect, value, path):
        self.broker = broker
        self.peer = connect(broker, "+/commands", "+/replies", "+/status")
        self.part, self.light, self.led = value("part", 0), value("light", 999), value("led")
        self.arm_effects, self.note_effects = Effects(path / "arm.effects"), Effects(path / "note.effects")
        self.proxies = {name: Proxy(broker.port) for name in ("server1", "arm1", "lamp1")}
        arm = self.arm_effects.actuator("raised") + self.arm_effects.actuator("gripped")
        lamp = configs.actuator("led_on", self.led) + self.note_effects.actuator("note", "string")
        self.daemons = {
            "server1": make_daemon("server1", self.base("server1", "server") + RULES),
            "arm1": make_daemon("arm1", self.base("arm1") + configs.sensor("part", self.part) + arm),
            "lamp1": make_daemon("lamp1", self.base("lamp1") + configs.sensor("light", self.light) + lamp),
        }
        self.notes = {}  # id: whether it had expired
        for daemon in self.daemons.values():
            daemon.start()

    def base(self, name, role="device"):
        return configs.base(self.proxies[name].port, role, name)

    def close(self):
        for proxy in self.proxies.values():
            proxy.close()

    # --- what happens ---

    def kill(self, choice):
        name = choice.choice(list(self.daemons))
        self.daemons[name].kill()
        time.sleep(0.05)  # the program that it had started comes to its end
        effects = {"arm1": self.arm_effects, "lamp1": self.note_effects}.get(name)
        if effects:
            effects.mark_start()
        self.daemons[name].start()

    def restart_broker(self, _choice):
        self.broker.kill()
        self.broker.start()

    def cut(self, choice):
        self.proxies[choice.choice(list(self.proxies))].cut()

    def cut_in_a_packet(self, choice):
        self.proxies[choice.choice(list(self.proxies))].cut_after(choice.randrange(1, 400))

    def move(self, _choice):
        self.part.write(1 - int(self.part.read()))

    def darken(self, choice):
        self.light.write(choice.choice((1, 999)))

    def note(self, choice):
        name = f"n{len(self.notes)}"
        expired = choice.random() < 0.2
        self.notes[name] = expired
        # Again, as whoever has no reply yet does; and what was answered long ago. What kill -9 has
        # caught in the middle is not known to the device: that is not sent again after a newer one.
        for _ in range(choice.randrange(1, 3)):
            self.publish_note(name)
        for answered in choice.sample(sorted(self.ends()), min(choice.randrange(3), len(self.ends()))):
            self.publish_note(answered)

    def publish(self, topic, payload):
        """While the broker is away the test's own client takes it, and says that it failed."""
        try:
            self.peer.publish(topic, payload)
        except RuntimeError:
            time.sleep(0.1)

    def publish_note(self, name):
        command = {"$id": name, "note": name}
        if self.notes[name]:
            command["$expires"] = "2020-01-01T00:00:00Z"
        self.publish("lamp1/commands", command)

    def talk_nonsense(self, choice):
        topic = choice.choice(("lamp1/commands", "arm1/commands", "lamp1/replies"))
        self.publish(topic, choice.choice(NONSENSE))
        self.publish("lamp1/replies", {"$id": "0-1", "status": "done"})

    def pause(self, choice):
        time.sleep(choice.random() * 0.3)

    HAPPENINGS = (kill, restart_broker, cut, cut_in_a_packet, move, move, darken, darken, note, note, note,
                  talk_nonsense, pause, pause)  # fmt: skip

    # --- what must be so ---

    def settle(self):
        for proxy in self.proxies.values():
            proxy.mend()
        part, led = self.part.read().strip(), "1\n" if int(self.light.read()) < 300 else "0\n"
        wait_until(
            lambda: self.arm_effects.read()[-2:] == [("raised", part), ("gripped", part)],
            lambda: f"the arm to be at {part}: {self.arm_effects.read()[-10:]}",
            60,
        )
        wait_until(lambda: self.led.read() == led, lambda: f"the lamp to be {led!r}: {self.led.read()!r}", 60)

    def check(self):
        arm = self.arm_effects.read()
        cycle = [("raised", "0"), ("gripped", "0"), ("raised", "1"), ("gripped", "1")]
        assert arm == [cycle[i % 4] for i in range(len(arm))]
        noted = [value for _, value in self.note_effects.read()]
        assert len(noted) == len(set(noted)), noted
        for name, ends in self.ends().items():
            assert len(ends) == 1, (name, ends)  # whoever asks again gets the same reply
            assert (name in noted) == (ends == {"done"}), (name, ends)
        assert not any(self.notes[name] for name in noted)

    def ends(self):
        """By note: what its replies say."""
        ends = {}
        for message in self.peer.received("lamp1/replies"):
            try:
                reply = json.loads(message.payload)
            except (ValueError, RecursionError):
                continue  # of our own nonsense
            if isinstance(reply, dict) and reply.get("$id") in self.notes:
                ends.setdefault(reply["$id"], set()).add(reply["status"])
        return ends


@pytest.fixture
def world(broker, make_daemon, connect, value, tmp_path):
    world = World(broker, make_daemon, connect, value, tmp_path)
    yield world
    world.close()


@pytest.mark.slow
def test_commands_take_effect_once_and_in_order_whatever_happens(world):
    print(f"seed {SEED}")
    world.settle()
    for n in range(ROUNDS):
        choice = random.Random(f"{SEED} {n}")
        happenings = choice.choices(World.HAPPENINGS, k=choice.randrange(3, 9))
        try:
            for happening in happenings:
                happening(world, choice)
            world.settle()
            world.check()
        except AssertionError as error:
            names = [happening.__name__ for happening in happenings]
            raise AssertionError(f"seed {SEED}, round {n}, {names}: {error}") from error
    assert len(world.arm_effects.read()) >= 4 and world.ends()
