#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that the message catalog explains each LOG_ID_ of src/util/log.h, and nothing else."""

import re
import sys
from pathlib import Path


def main():
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    header = (top / "src/util/log.h").read_text(encoding="utf-8")
    catalog = (top / "systemd/nightlightd.catalog").read_text(encoding="utf-8")

    names = {id: name for name, id in re.findall(r'#define (LOG_ID_\w+)\s+"([0-9a-f]{32})"', header)}
    ids = re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    complete = re.findall(
        r"^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: nightlightd\n(?:Documentation: .+\n)*\n\S",
        catalog,
        re.M,
    )

    faults = [f"{names[id]} is not in the catalog" for id in names if id not in ids]
    faults += [f"{id} is in no LOG_ID_" for id in ids if id not in names]
    faults += [f"{id} is there twice" for id in set(ids) if ids.count(id) > 1]
    faults += [f"{id} lacks a field or its text" for id in ids if id not in complete]
    print("\n".join(faults) or f"{len(names)} messages explained")
    return 1 if faults or not names else 0


if __name__ == "__main__":
    sys.exit(main())
