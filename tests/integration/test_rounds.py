# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Two devices and two servers, and everything that can happen to them, in rounds: kill -9 of each, a
broker that restarts, connections that break in the middle of a packet or are slower than others,
so that what is sent over two of them arrives in another order, duplicates, and commands that make
no sense. After each round all that was decided is there, once and in order.

    NIGHTLIGHT_ROUNDS=500 NIGHTLIGHT_ROUNDS_SEED=1 pytest tests/integration/test_rounds.py
"""

import functools
import json
import os
import random
import time
from collections import namedtuple

import pytest

from support import configs
from support.proxy import Proxy
from support.wait import wait_until

ROUNDS = int(os.environ.get("NIGHTLIGHT_ROUNDS", 0)) or 60
SEED = int(os.environ.get("NIGHTLIGHT_ROUNDS_SEED", 0)) or int(time.time())

ORDERED = """
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
"""

# Both servers decide on it: the newer decision stands, whichever comes last.
LATEST = """
[rule light]
devices = lamp1
when = light < 300
then = {"led_on": true}
else = {"led_on": false}
"""

NAMES = ("server1", "server2", "arm1", "lamp1")

Note = namedtuple("Note", "expired seq")

NONSENSE = [
    b"", b"\xff\xfe", b"[" * 5000, b'{"note": 1}', b'{"$id": "x", "note": "a", "lid": true}', b'{"note": NaN}',
    b'{"$id": "y", "note": "' + b"z" * 70000 + b'"}', b'{"$id": 7, "note": "a"}', b'{"$idd": "a", "note": "a"}',
    b'{"note": "a", "note": "b"}', b'{"$id": "q", "$action": "rm -rf /"}', b'{"$id": "r", "$expires": "soon", "note": "a"}',
]  # fmt: skip


class Effects:
    """What the actuators of a device were set to, a line each, by a program that only appends."""

    def __init__(self, path):
        self.path = path
        self.last = set()  # effects that were the last before a kill
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
                self.last.update(history[-1] for history in values.values())
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
        self.proxies = {name: Proxy(broker.port) for name in (*NAMES, "late")}
        self.late = connect(self.proxies["late"])  # commands over another way
        self.part, self.light, self.led = value("part", 0), value("light", 999), value("led")
        self.arm_effects, self.note_effects = Effects(path / "arm.effects"), Effects(path / "note.effects")
        arm = self.arm_effects.actuator("raised") + self.arm_effects.actuator("gripped")
        lamp = configs.actuator("led_on", self.led) + self.note_effects.actuator("note", "string")
        self.daemons = {
            "server1": make_daemon("server1", self.base("server1", "server") + ORDERED + LATEST),
            "server2": make_daemon("server2", self.base("server2", "server") + LATEST),
            "arm1": make_daemon("arm1", self.base("arm1") + configs.sensor("part", self.part) + arm),
            "lamp1": make_daemon("lamp1", self.base("lamp1") + configs.sensor("light", self.light) + lamp),
        }
        self.notes = {}  # id: Note
        self.old = 0  # commands that were out of date when they were sent
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

    def slow_down(self, choice):
        """For the rest of the round."""
        delays = [choice.choice((0, choice.random() * 0.4)) for _ in range(2)]
        self.proxies[choice.choice(list(self.proxies))].delay(*delays)

    def leave_behind(self, choice):
        """A connection is lost, and the next one is there before what was sent over it arrives, or after."""
        proxy = self.proxies[choice.choice(list(self.proxies))]
        proxy.delay(up=0.5)
        time.sleep(0.15)  # the sensors' rhythm is shorter
        proxy.leave_behind(choice.random() * 0.5)
        proxy.delay()

    def note(self, choice):
        """
        Sent again, as whoever has no reply yet does; and what was answered long ago. What kill -9
        has caught in the middle is not known to the device: only with a $seq may that come again
        after a newer one, and over another connection.
        """
        number = len(self.notes)
        name = f"n{number}"
        self.notes[name] = Note(choice.random() < 0.2, number + 1 if choice.random() < 0.5 else None)
        numbered = [name for name, note in self.notes.items() if note.seq]
        again = choice.sample(numbered, min(choice.randrange(3), len(numbered)))
        again += choice.sample(sorted(self.ends()), min(choice.randrange(3), len(self.ends())))
        for each in [name] * choice.randrange(1, 3) + again:
            self.publish_note(each, choice)

    def publish_note(self, name, choice):
        expired, seq = self.notes[name]
        command = {"$id": name, "note": name}
        if expired:
            command["$expires"] = "2020-01-01T00:00:00Z"
        if seq:
            command["$seq"] = seq
        self.publish("lamp1/commands", command, choice if seq else None)

    def publish(self, topic, payload, choice=None):
        """
        With a choice, also over the other connection, in its own time. While the broker is away the
        test's own client takes it, and says that it failed.
        """
        if choice and choice.random() < 0.5:
            self.late.publish(topic, payload, wait=False)
            return
        try:
            self.peer.publish(topic, payload)
        except RuntimeError:
            time.sleep(0.1)

    def repeat(self, choice):
        """What went over the wire before goes again, over another connection: replies, and commands."""
        answered = {command_id for topic in ("lamp1", "arm1") for command_id, _ in self.replies(topic)}
        known = []
        for message in self.peer.messages[-200:]:
            said = parsed(message.payload)
            ordered = message.topic == "arm1/commands"  # the next waits for its reply
            if message.topic.endswith("/replies") or ordered or "$seq" in said or said.get("$id") in answered:
                known.append(message)
        for message in choice.sample(known, min(choice.randrange(1, 6), len(known))):
            self.publish(message.topic, message.payload, choice)

    def say_what_is_old(self, choice):
        """A command that was sent ten minutes ago, and comes only now."""
        if any("$seq" in command for command in self.commands("led_on")):
            seq = int((time.time() - 600) * 1000) + self.old
            command = {"$id": f"old{self.old}", "$seq": seq, "led_on": choice.random() < 0.5}
            self.old += 1
            self.publish("lamp1/commands", command, choice)

    def talk_nonsense(self, choice):
        topic = choice.choice(("lamp1/commands", "arm1/commands", "lamp1/replies"))
        self.publish(topic, choice.choice(NONSENSE))
        self.publish("lamp1/replies", {"$id": "0-1", "status": "done"})

    def pause(self, choice):
        time.sleep(choice.random() * 0.3)

    HAPPENINGS = (kill, restart_broker, cut, cut_in_a_packet, slow_down, slow_down, leave_behind, move, move, darken,
                  darken, note, note, note, repeat, repeat, say_what_is_old, talk_nonsense, pause, pause)  # fmt: skip

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
        answered = self.ends()  # before its effects are looked at: some may still come
        noted = [value for _, value in self.note_effects.read()]
        assert len(noted) == len(set(noted)), noted
        numbered = [note.seq for note in map(self.notes.get, noted) if note.seq]
        assert numbered == sorted(numbered), noted
        for name, ends in answered.items():
            assert len(ends) == 1, (name, ends)  # whoever asks again gets the same reply
            # What a kill has caught in the middle is not known; when it comes again it may be too late.
            caught = ends == {"superseded"} and self.notes[name].seq and name in self.note_effects.last
            assert (name in noted) == (ends == {"done"}) or caught, (name, ends)
        assert not any(self.notes[name].expired for name in noted)
        old = {status for command_id, status in self.replies("lamp1") if command_id.startswith("old")}
        assert old <= {"superseded"}, old

    def ends(self):
        """By note: what its replies say."""
        ends = {}
        for command_id, status in self.replies("lamp1"):
            if command_id in self.notes:
                ends.setdefault(command_id, set()).add(status)
        return ends

    def replies(self, device):
        """Of all that were answered: id and status."""
        replies = (parsed(message.payload) for message in self.peer.received(f"{device}/replies"))
        return [(reply["$id"], reply["status"]) for reply in replies if "status" in reply]

    def commands(self, actuator):
        commands = (parsed(message.payload) for message in self.peer.received("lamp1/commands"))
        return [command for command in commands if actuator in command]


@functools.lru_cache(maxsize=None)
def parsed(payload):
    """{} for what is our own nonsense."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("$id"), str) else {}


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
