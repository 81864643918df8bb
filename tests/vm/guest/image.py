# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the image once, and a snapshot of the machine that has just booted from it.

    directory = image.prepare()    # minutes the first time, nothing after

It is kept in build/vm/KEY; the key changes with what goes in: the recipe, Debian's kernel, and qemu
with its options, as a snapshot need not be understood by another.
"""

import fcntl
import hashlib
import pathlib
import re
import shutil
import subprocess

from guest.machine import Machine

TOP = pathlib.Path(__file__).resolve().parents[3]
RECIPE = TOP / "tests/vm/image"
CACHE = TOP / "build/vm"
BOOTED = "booted"
BUILD_LIMIT_SECONDS = 1200


def _key():
    kernel = subprocess.run(["apt-cache", "show", "--no-all-versions", "linux-image-amd64"],
                            capture_output=True, text=True, check=True).stdout
    qemu = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(qemu + re.search("^Version: .*$", kernel, re.M)[0].encode())
    digest.update(repr(Machine("/image", "/work").command()).encode())
    for path in sorted(RECIPE.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(directory):
    with open(directory / "build.log", "wb") as log:
        result = subprocess.run([RECIPE / "build", directory], stdin=subprocess.DEVNULL, stdout=log,
                                stderr=log, timeout=BUILD_LIMIT_SECONDS)
    if result.returncode != 0:
        end = (directory / "build.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the image cannot be built, see {directory}/build.log:\n{end}")
    machine = Machine(directory, directory)
    machine.create_disk()
    try:
        machine.start()
        machine.run("systemctl is-system-running --wait", limit=240)
        machine.save(BOOTED)
    finally:
        machine.stop()


def prepare():
    """The directory with root.img, vmlinuz, initrd, and disk.qcow2 with the snapshot BOOTED."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = CACHE / _key()
        if not done.exists():
            for old in CACHE.glob("*/"):
                shutil.rmtree(old)
            unfinished = CACHE / "unfinished"
            unfinished.mkdir()
            _build(unfinished)
            # The disk's backing file is named by its path.
            unfinished.rename(done)
            subprocess.run(["qemu-img", "rebase", "-u", "-F", "raw", "-b", done / "root.img",
                            done / "disk.qcow2"], check=True)
        return done
