# SPDX-License-Identifier: LGPL-2.1-or-later
"""An arm that is moved by commands, each with an id and a number of its own, and must not move twice."""

import itertools
import json

from support.fakes import Threaded

REPLIES = "lamp1/replies"


def replies_in(arrivals):
    """The replies by their command's id."""
    replies = [json.loads(each.payload) for each in arrivals if each.topic == REPLIES]
    return {reply["$id"]: reply for reply in replies}


class Arm(Threaded):
    """A command every 100 ms, from a number on, until close(). moves(): where it was moved, in order."""

    def __init__(self, peer, moves, first=1):
        self._peer, self.moves, self.next = peer, moves, first
        super().__init__()

    def serve(self):
        for self.next in itertools.count(self.next):
            if self._over.wait(0.1):
                return
            self.send(f"id{self.next}")

    def send(self, name):
        self._peer.publish("lamp1/commands", {"$id": name, "arm": int(name[2:])}, wait=False)

    def send_again(self, witness, replies, since):
        """What was answered, the latest of it: the same reply comes, and nothing moves."""
        if replies:  # where the arm was last, it is set anew at the start
            witness.wait("lamp1/state", lambda state: state["arm"] is not None, since)
        moves, since = self.moves(), len(witness.arrivals)
        for name, reply in list(replies.items())[-20:]:
            self.send(name)
            witness.wait(REPLIES, lambda answer, reply=reply: answer == reply, since)
        assert self.moves() == moves, "what was answered is carried out again"
