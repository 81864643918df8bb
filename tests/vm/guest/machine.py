# SPDX-License-Identifier: LGPL-2.1-or-later
"""A virtual machine in qemu: scripts run in it, its state is saved and gone back to, its plug pulled.

    machine = Machine(image_directory, work_directory)
    machine.start()                        # a boot
    machine.run("systemctl start foo")     # Failed, with what it wrote, unless it exits with 0
    machine.save("clean")
    machine.restore("clean")               # a second, whatever has happened since
    machine.reset()                        # the power is cut and comes back: another boot
    machine.kill()                         # the power is cut

What is emulated is a CPU without hardware help (KVM does not work wherever these tests have to), ten
times slower or more: limits are generous, and nothing here measures speed.
"""

import json
import pathlib
import socket
import subprocess
import time

MEMORY_MIB = 512
# A resume takes one second, a boot twenty; other work on the machine makes either longer.
START_LIMIT_SECONDS = 240
BOOT_LIMIT_SECONDS = 120
BOOT_TRIES = 3
COMMAND_LIMIT_SECONDS = 60
# What the agent in the guest, qemu and this machine may add to a script's own limit.
ANSWER_SECONDS = 60
# Emulated, a fifth level of pages and wide vectors cost time and bring none.
CPU = "max,la57=off,avx=off,avx2=off,f16c=off,fma=off"
KERNEL_OPTIONS = ("console=ttyS0 quiet panic=-1 root=/dev/vda rw mitigations=off net.ifnames=0 "
                  "systemd.show_status=0 systemd.getty_auto=0")


class Failed(AssertionError):
    """A script in the guest did not exit with 0."""

    def __init__(self, script, status, output):
        super().__init__(f"exit status {status} of\n{script}\n--- it wrote\n{output}")
        self.status = status
        self.output = output


class Lost(Exception):
    """The machine does not answer any more; there is no use in asking it again."""


class Channel:
    """A byte stream from and to qemu, with limits in time."""

    def __init__(self, path, process):
        end = time.monotonic() + START_LIMIT_SECONDS
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > end:
                    raise Lost(f"qemu does not start, see its log: {error}") from None
                time.sleep(0.05)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def _receive(self, end):
        self.socket.settimeout(max(end - time.monotonic(), 0.01))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise Lost("no answer in time") from None
        if not data:
            raise Lost("qemu has ended")
        self.buffer += data

    def line(self, seconds):
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            self._receive(end)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode()

    def bytes(self, count, seconds):
        end = time.monotonic() + seconds
        while len(self.buffer) < count:
            self._receive(end)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def close(self):
        self.socket.close()


class Machine:
    """One qemu process, and the disk that it writes to: disk.qcow2 in its work directory.

    With more options of qemu's it has hardware of its own, and nothing to do with others' snapshots."""

    def __init__(self, image, work, more=()):
        self.image = pathlib.Path(image).resolve()
        self.work = pathlib.Path(work).resolve()
        self.disk = self.work / "disk.qcow2"
        self.more = more
        self.process = self.agent = self.monitor = None
        self.number = 0
        self.has_second_disk = False
        self.events = []  # what qemu has said by itself

    def create_disk(self, other=None):
        """A disk that holds what differs from the image, or from that of another machine, which has stopped."""
        below = ["-F", "qcow2", "-b", other.disk] if other else ["-F", "raw", "-b", self.image / "root.img"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *below, self.disk], check=True)

    def command(self):
        """How qemu is started. A snapshot is good for the same command only, but for the paths."""
        return [
            "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU,
            "-smp", "2", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", f"{self.image}/vmlinuz", "-initrd", f"{self.image}/initrd",
            "-append", KERNEL_OPTIONS,
            "-drive", f"if=none,id=root,file={self.disk},format=qcow2,cache=unsafe",
            "-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={self.work}/agent.sock,server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=agent,id=agent",
            "-device", "pcie-root-port,id=plug,chassis=1",
            "-serial", f"file:{self.work}/console.log",
            "-qmp", f"unix:{self.work}/monitor.sock,server=on,wait=off",
            *self.more,
        ]

    def start(self, snapshot=None):
        """Boots, or goes on from a snapshot."""
        self.events.clear()
        self.has_second_disk = False
        command = self.command() + (["-loadvm", snapshot] if snapshot else [])
        with open(self.work / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.monitor = Channel(self.work / "monitor.sock", self.process)
        self.monitor.line(START_LIMIT_SECONDS)  # the greeting
        self._qmp("qmp_capabilities")
        self.agent = Channel(self.work / "agent.sock", self.process)
        if snapshot:
            self._wait_for_agent()
        else:
            self._wait_for_boot()

    def stop(self):
        """Ends qemu, and has it write its disk out. Nothing is said to the guest."""
        try:
            self._qmp("quit")
            self.process.wait(10)
        except (Lost, OSError, AttributeError, subprocess.TimeoutExpired):
            pass
        self.kill()

    def kill(self):
        """Cuts the power. What qemu keeps in its own memory is lost too: its disk may be of no use any more."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.agent and self.agent.close()
            self.monitor and self.monitor.close()
        self.process = None

    def run(self, script, limit=COMMAND_LIMIT_SECONDS, check=True):
        """Runs a bash script in the guest and returns what it wrote, standard error included.

        With check=False, returns that and the exit status instead of failing on it; 124 means that
        it was ended after `limit` seconds. What it leaves in the background goes on."""
        self.number += 1
        body = script.encode()
        self.agent.send(f"{self.number} {limit} {len(body)}\n".encode() + body)
        number, status, length = map(int, self.agent.line(limit + ANSWER_SECONDS).split())
        output = self.agent.bytes(length, ANSWER_SECONDS).decode("utf-8", "replace")
        if number != self.number:
            raise Lost(f"answer {number} to question {self.number}")
        if not check:
            return output, status
        if status != 0:
            raise Failed(script, status, output)
        return output

    def save(self, snapshot):
        self._command(f"savevm {snapshot}")

    def restore(self, snapshot):
        """Goes back: memory, disk and all that runs, but for the time of day."""
        if self.has_second_disk:  # which no snapshot knows
            self.stop()
            self.start(snapshot)
            return
        self._command(f"loadvm {snapshot}")
        self._wait_for_agent()

    def reset(self):
        """Cuts the power and gives it back. What the guest had not written to its disk is lost."""
        self.boot_by(lambda: self._qmp("system_reset"))

    def boot_by(self, action):
        """action() makes the machine boot; returns when it has."""
        self.events.clear()
        action()
        # Until the guest's end of the channel is closed, what is sent would be lost with it.
        self._wait_for_port(False, START_LIMIT_SECONDS)
        self._wait_for_boot()

    def attach(self, drive):
        """Plugs in a second disk, /dev/vdb; `drive` is what -blockdev takes, as a dict.

        It stays until the next restore(). There is no save() with it."""
        self.has_second_disk = True
        self._qmp("blockdev-add", {"node-name": "second", **drive})
        self._qmp("device_add", {"driver": "virtio-blk-pci", "drive": "second", "bus": "plug",
                                 "id": "second"})
        self.run("for i in {1..100}; do [ ! -b /dev/vdb ] || exit 0; sleep 0.1; done; exit 1")

    def _wait_for_port(self, is_open, limit):
        """Until the guest has opened, or closed, its end of the agent's channel."""
        end = time.monotonic() + limit
        while not any(event["event"] == "VSERPORT_CHANGE" and event["data"]["open"] == is_open
                      for event in self.events):
            self.events.append(json.loads(self.monitor.line(end - time.monotonic())))

    def _wait_for_boot(self):
        """Gives the power once more where the kernel got stuck before it had touched the disk.

        Seen with a machine that was busy otherwise: its check of the emulated timer fails ("8254
        timer not connected"), and that is its last word."""
        for _ in range(BOOT_TRIES - 1):
            try:
                self._wait_for_port(True, BOOT_LIMIT_SECONDS)
                break
            except Lost:
                self._qmp("system_reset")
        self._wait_for_agent()

    def _wait_for_agent(self):
        self.run(f"date -s @{time.time():.3f} >/dev/null", limit=START_LIMIT_SECONDS)

    def _qmp(self, command, arguments=None):
        request = {"execute": command, "arguments": arguments or {}}
        self.monitor.send(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self.monitor.line(START_LIMIT_SECONDS))
            if "error" in answer:
                raise Lost(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]
            self.events.append(answer)

    def _command(self, line):
        """A command that qemu has for people only; it answers with nothing when it is done."""
        problem = self._qmp("human-monitor-command", {"command-line": line})
        if problem:
            raise Lost(f"{line}: {problem}")
