#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that the configuration table, its manual page and the sample configuration agree.

    tests/house/options.py MAN-OPTIONS SOURCE-DIRECTORY

The manual page must be what scripts/update-man makes of the table; the sample must name every key of
every section, commented out, with the default that the table has where it has one.
"""
import re
import subprocess
import sys
from pathlib import Path


def check_manual(binary, top):
    options = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    source = (top / "man/nightlightd.conf.5.in").read_text()
    if source.replace("@OPTIONS@\n", options) != (top / "man/nightlightd.conf.5").read_text():
        yield "man/nightlightd.conf.5 is not what the table says: run scripts/update-man"


def sample_keys(text):
    """(section, key, value) of each setting, commented out or not."""
    section = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"#?\[(\w+)(?: [^\]]+)?\]", line):
            section = header.group(1)
        elif setting := re.fullmatch(r"#?(\w+) = ?(.*)", line):
            yield section, setting.group(1), setting.group(2)


def check_sample(binary, top):
    table = subprocess.run([binary, "--plain"], check=True, capture_output=True, text=True).stdout
    defaults, drivers = {}, set()
    for line in table.splitlines():
        name, separator, default = line.partition("=")
        if separator:
            defaults[tuple(name.split("."))] = default
        else:
            drivers.add((name.split("/")[0], name.split(".")[1]))
    sample = list(sample_keys((top / "conf/nightlightd.conf").read_text()))
    for section, key, value in sample:
        if (section, key) not in defaults and (section, key) not in drivers:
            yield f"conf/nightlightd.conf: there is no key {section}.{key}"
    for (section, key), default in defaults.items():
        values = [value for s, k, value in sample if (s, k) == (section, key)]
        if not values:
            yield f"conf/nightlightd.conf: {section}.{key} is missing"
        elif default and default not in values:
            yield f"conf/nightlightd.conf: {section}.{key} should show the default {default}"


def main():
    if len(sys.argv) != 3:
        print("Usage: tests/house/options.py MAN-OPTIONS SOURCE-DIRECTORY", file=sys.stderr)
        return 2
    binary, top = sys.argv[1], Path(sys.argv[2])
    errors = list(check_manual(binary, top)) + list(check_sample(binary, top))
    print("\n".join(errors))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
