# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Tests of the package in a virtual machine: a real systemd, journal, kernel lines.

    sudo scripts/test --vm                                                    # builds what is needed
    sudo /usr/bin/python3 -m pytest -p no:cacheprovider tests/vm -k watchdog  # then, by hand

Each test begins in the same machine, that has just booted and into which apt has installed the
package, and may do with it as it likes. NIGHTLIGHTD_DEB names the package; otherwise it is that of
scripts/test.
"""

import copy
import os
import pathlib
import shutil
import sys

import pytest

from guest import image
from guest.guest import Guest
from guest.hardware import Chip
from guest.machine import Lost, Machine

# What both kinds of tests have on this side.
sys.path.append(str(image.TOP / "tests/integration"))

INSTALLED = "installed"


def package():
    """The .deb under test."""
    named = os.environ.get("NIGHTLIGHTD_DEB")
    found = [pathlib.Path(named)] if named else sorted((image.TOP / "build/package").glob("nightlightd_*.deb"))
    if not found or not found[0].exists():
        pytest.exit("there is no package; scripts/test --vm builds one, or name it in NIGHTLIGHTD_DEB", 2)
    return found[0]


@pytest.fixture(scope="session")
def deb():
    return package()


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """The booted machine, without the package."""
    work = tmp_path_factory.mktemp("machine")
    directory = image.prepare()
    shutil.copy(directory / "disk.qcow2", work)
    machine = Machine(directory, work)
    try:
        machine.start(image.BOOTED)
        yield machine
    finally:
        machine.stop()


@pytest.fixture(scope="session")
def installed(machine, deb):
    """The machine with a snapshot in which apt has installed the package."""
    machine.restore(image.BOOTED)
    Guest(machine).write(f"/root/{deb.name}", deb.read_bytes())
    machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get -q -y install /root/{deb.name}", limit=300)
    machine.save(INSTALLED)
    return machine


def in_snapshot(machine, snapshot):
    machine.restore(snapshot)
    yield Guest(machine)
    try:
        # pytest shows it if the test failed.
        print("--- the journal\n" + machine.run("journalctl -b -q -n 200 --no-pager", check=False)[0])
        print("--- gpio\n" + machine.run("gpioinfo", check=False)[0])
    except Lost:
        # Others can go on without what this one has done to it.
        machine.stop()
        machine.start(snapshot)


@pytest.fixture
def vm(installed):
    """A Guest with the package, fresh from its installation."""
    yield from in_snapshot(installed, INSTALLED)


@pytest.fixture
def bare(machine):
    """A Guest without the package."""
    yield from in_snapshot(machine, image.BOOTED)


@pytest.fixture(scope="session")
def made():
    """What once() has made, by name."""
    return {}


@pytest.fixture
def once(vm, made):
    """once(name, make): what make() returns, with the machine as it was after make() had run, which it does once."""

    def once(name, make):
        if name in made:
            vm.machine.restore(name)
        else:
            made[name] = make()
            vm.machine.save(name)
        return copy.copy(made[name])  # a test may change it, as it may the machine

    return once


@pytest.fixture
def chip(vm, once):
    return once("chip", lambda: Chip(vm, "bank", "BUTTON", "LAMP", "PUMP", "SPARE"))
