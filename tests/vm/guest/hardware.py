# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hardware that the guest's kernel simulates: GPIO chips (gpio-sim) and IIO devices (iio_dummy)."""

CONFIGFS = "/sys/kernel/config"


class Chip:
    """A GPIO chip. What is on its lines is seen from outside: a pull on inputs, the level of outputs."""

    def __init__(self, guest, label, *names):
        self.guest = guest
        self.names = names
        self.directory = f"{CONFIGFS}/gpio-sim/{label}"
        bank = f"{self.directory}/bank0"
        lines = "".join(f"mkdir {bank}/line{i} && echo {name} >{bank}/line{i}/name\n"
                        for i, name in enumerate(names))
        guest.run(f"set -e; modprobe gpio-sim; mkdir -p {bank}\n"
                  f"echo {len(names)} >{bank}/num_lines; echo {label} >{bank}/label\n{lines}")
        self.come()

    def come(self):
        """Plugs it in."""
        self.guest.run(f"echo 1 >{self.directory}/live && udevadm settle")
        self.name = self.guest.run(f"cat {self.directory}/bank0/chip_name")
        device = self.guest.run(f"cat {self.directory}/dev_name")
        self.attributes = f"/sys/devices/platform/{device}/{self.name}"

    def go(self):
        """Unplugs it, whoever may hold a line."""
        self.guest.run(f"echo 0 >{self.directory}/live")

    def _line(self, name, attribute):
        return f"{self.attributes}/sim_gpio{self.names.index(name)}/{attribute}"

    def set(self, name, *levels, pause=0.15):
        """Gives an input these levels, one after the other. The kernel needs a pause to see each."""
        path = self._line(name, "pull")
        steps = [f"echo pull-{'up' if level else 'down'} >{path}" for level in levels]
        self.guest.run(f"; sleep {pause}; ".join(steps))

    def level(self, name):
        return int(self.guest.run(f"cat {self._line(name, 'value')}"))

    def watch(self, name):
        """Does not take its eyes off a line from now on."""
        return Watch(self.guest, self._line(name, "value"))

    def user(self, name):
        """Who holds the line, as gpioinfo tells it; empty if nobody."""
        line = self.guest.run(f"gpioinfo {self.name} | grep '\"{name}\"'")
        consumer = line.split(f'"{name}"')[1].split()[0]
        return "" if consumer == "unused" else consumer.strip('"')


class Watch:
    """The levels that a line has had, looked at in a loop for as long as levels() is not called.

    A level shorter than a few milliseconds may be missed; what is looked for lasts from the end of a
    process to the start of another."""

    PATH, END = "/run/watch", "/run/watch.end"

    def __init__(self, guest, value):
        self.guest = guest
        guest.run(f"""
            rm -f {self.PATH} {self.END}
            (last=
            while [ ! -e {self.END} ]; do
                read -r level <{value}
                [ "$level" = "$last" ] || echo "$level"
                last=$level
            done
            echo end) >{self.PATH} 2>&1 </dev/null &
            until [ -s {self.PATH} ]; do sleep 0.1; done""")

    def levels(self):
        """In their order, once each; ends it."""
        self.guest.run(f"touch {self.END}")
        self.guest.wait(lambda: self.guest.read(self.PATH).endswith("end"), "the end of the watch")
        return self.guest.read(self.PATH).split()[:-1]


class IioDevice:
    """iio_dummy: voltages, an accelerometer and events, by the interfaces of a real device."""

    def __init__(self, guest, name):
        self.guest = guest
        guest.run(f"modprobe iio_dummy && mkdir -p {CONFIGFS}/iio/devices/dummy/{name}")
        self.directory = "/sys/bus/iio/devices/iio:device0"

    def read(self, attribute):
        return float(self.guest.run(f"cat {self.directory}/{attribute}"))
