# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs of tests/vm/inside, which run in the guest: what happens too often, or too fast, to be done from here."""

import pathlib

INSIDE = pathlib.Path(__file__).resolve().parents[1] / "inside"


class Program:
    """One that runs in the background from now on; what it writes is in a file of its name.

        edges = Program(vm, "edges", pull, value)
        ...
        lines = edges.stop()    # SIGTERM; each line it has written, as words"""

    def __init__(self, guest, name, *arguments):
        self._guest, self.name = guest, name
        self.path = f"/run/{name}.out"
        guest.write(f"/root/{name}.py", (INSIDE / f"{name}.py").read_bytes())
        words = " ".join(str(each) for each in arguments)
        # Without what site.py looks for, python starts in half the time.
        self.pid = guest.run(f"python3 -I -S /root/{name}.py {words} >{self.path} 2>/run/{name}.err </dev/null &\n"
                             "echo $!")

    def lines(self):
        return [line.split() for line in self._guest.read(self.path).splitlines()]

    def wait_line(self, *words):
        self._guest.wait(lambda: list(words) in self.lines(), f"{words} of {self.name}")

    def wait_end(self, limit):
        """Until it ends by itself."""
        self._guest.run(f"timeout {limit} tail --pid={self.pid} -f /dev/null", limit=limit + 10)
        return self._finish()

    def stop(self):
        self._guest.run(f"kill {self.pid} && timeout 30 tail --pid={self.pid} -f /dev/null")
        return self._finish()

    def _finish(self):
        said = self._guest.read(f"/run/{self.name}.err")
        assert not said, f"{self.name}: {said}"
        return self.lines()
