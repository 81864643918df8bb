#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks that the layers hold: which directory includes which, and who may use which library.

    tests/house/layers.py [SOURCE-DIRECTORY]

Prints every breach as FILE:LINE: text, and fails if there is one.
"""

import re
import sys
from pathlib import Path

# What each layer may include besides itself. The key of a file right below src/ is its name.
LAYERS = {
    "util": set(),
    "core": {"util"},
    "config": {"util", "core"},
    "io": {"util", "core"},
    "store": {"util", "core"},
    "outbox": {"util", "core", "config", "io", "store"},
    "drivers": {"util", "core", "config", "io", "store"},
    "device": {"util", "core", "config", "io", "store", "outbox", "drivers"},
    "server": {"util", "core", "config", "io", "store", "outbox", "drivers"},
}
LAYERS["daemon"] = set(LAYERS)
LAYERS["main"] = set(LAYERS)
LAYERS["ctl"] = {"util", "core", "config", "io", "store", "outbox", "drivers", "server"}
LAYERS["ctl-main"] = {"util", "io", "ctl"}
LAYERS["connector"] = {"util", "core"}  # a program of its own, that nobody includes

# Pattern of a line, of the paths that may have one, and what to say about the others.
RESERVED = [
    (
        r'#\s*include\s*[<"](mosquitto|mqtt_protocol\.h|openssl/|seccomp\.h)',
        r"connector/.*",
        "only connector/ uses libmosquitto, OpenSSL and libseccomp",
    ),
    (r'#\s*include\s*[<"]gpiod', r"io/gpio[^/]*", "only io/gpio uses libgpiod"),
    (r'#\s*include\s*[<"]sqlite3', r"store/.*", "only store/ uses SQLite"),
    (r'#\s*include\s*[<"]ini\.h', r"config/.*", "only config/ uses inih"),
    (
        r"\b(clock_gettime|gettimeofday)\s*\(|[^\w.>]time\s*\(",
        r"util/clock\.c",
        "only util/clock.c reads clocks",
    ),
    (r"\bclock_(mono|wall)_usec\s*\(", r"(?!core/).*", "core/ is handed the time"),
    (
        r'#\s*include\s*[<"](systemd/|unistd\.h|fcntl\.h|util/(files|log)\.h)',
        r"(?!core/).*",
        "core/ does no I/O",
    ),
]

INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def layer(path):
    """"core" for core/topic.h; "daemon" for daemon.c."""
    first = path.split("/")[0]
    return first if "/" in path else first.rsplit(".", 1)[0]


def code_lines(text):
    """The lines without comments, and without strings but those of #include."""

    def blank(match):
        token = match.group()
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if token.startswith('"') and "#" in before:
            return token
        return re.sub(r"[^\n]", " ", token)

    return COMMENT_OR_STRING.sub(blank, text).split("\n")


def breaches(path, text):
    own = layer(path)
    if own not in LAYERS:
        yield 1, f"no layer is known for {own}: add it to {Path(__file__).name}"
        return
    for number, line in enumerate(code_lines(text), 1):
        include = INCLUDE.match(line)
        if include:
            other = layer(include.group(1))
            if other != own and other not in LAYERS[own]:
                yield number, f"{own} may not include {include.group(1)}"
        for pattern, owners, rule in RESERVED:
            if re.search(pattern, line) and not re.fullmatch(owners, path):
                yield number, f"{rule}: {line.strip()}"


def main():
    top = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    files = sorted((top / "src").rglob("*.[ch]"))
    found = 0
    for file in files:
        path = file.relative_to(top / "src").as_posix()
        for number, text in breaches(path, file.read_text(encoding="utf-8")):
            print(f"src/{path}:{number}: {text}")
            found += 1
    print(f"{len(files)} files, {found} breaches")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
