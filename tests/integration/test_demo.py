# SPDX-License-Identifier: LGPL-2.1-or-later
"""The demo's picture fits the terminal, whatever size that has by now."""

import importlib.util
import os
import re
import shutil

import pytest

from support.daemon import ROOT

HINT = "Ctrl-C ends. Try elsewhere: echo 100 > /tmp/nightlight-abcdefgh/light"


def load_demo():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts/demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


@pytest.mark.parametrize("columns,rows", [(80, 24), (120, 40), (60, 20)])
def test_the_picture_fits_the_terminal(monkeypatch, capsys, columns, rows):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback=None: os.terminal_size((columns, rows)))
    show = load_demo().Show(HINT, live=True)
    for i in range(100):
        show.take("nightlight/telemetry", f'{{"light": {i * 10}}}')
        show.take("nightlight/state", '{"led_on": false}')
    picture = capsys.readouterr().out.rsplit("\x1b[H", 1)[1]
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", picture).split("\n")
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns
    assert any("990" in line for line in lines)
    assert columns < 80 or lines[-1] == HINT
