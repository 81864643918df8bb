# SPDX-License-Identifier: LGPL-2.1-or-later
"""The configuration: every error is reported where it is, all of them in one run; nothing guessed."""

import re

import pytest

from support import configs
from support.daemon import run

GOOD = configs.nightlight(1883, "/run/light", "/run/led")
BAD_CONFIGURATION = 78

# What the file says, the line of the error, what the report must hold. A first line [daemon] with a
# good id goes before each, so line 3 is the first one of the text.
BAD = {
    "unknown section": ("[sensro light]\ndriver = file\npath = /x\n", 3, ["sensro", "sensor"]),
    "unknown key": ("[broker]\nhots = localhost\n", 4, ["broker.hots", "host"]),
    "unknown key of a named section": (
        "[sensor light]\ndriver = file\npath = /x\nintervall = 5s\n", 6, ["intervall", "interval"],
    ),
    "unknown key of a driver": (
        "[sensor light]\ndriver = file\npth = /x\npath = /x\n", 5, ["pth", "path"],
    ),
    "a key of another driver": (
        "[sensor light]\ndriver = file\npath = /x\nwave = sine\n", 6, ["wave"],
    ),
    "unknown driver": ("[sensor light]\ndriver = fiel\npath = /x\n", 4, ["fiel", "file"]),
    "no driver": ("[sensor light]\npath = /x\n", 3, ["driver"]),
    "a required key is missing": ("[sensor light]\ndriver = file\n", 3, ["path"]),
    "repeated key": ("[broker]\nport = 1\nport = 2\n", 5, ["broker.port"]),
    "repeated name": (
        "[sensor a]\ndriver = file\npath = /x\n[sensor a]\ndriver = file\npath = /y\n", 6, ["a"],
    ),
    "a section that takes a name has none": ("[sensor]\ndriver = file\npath = /x\n", 3, ["sensor"]),
    "a section without a name has one": ("[broker x]\nport = 1\n", 3, ["broker"]),
    "not a number": ("[broker]\nport = many\n", 4, ["broker.port", "many"]),
    "a number and more": ("[broker]\nport = 1883x\n", 4, ["broker.port"]),
    "out of range": ("[broker]\nport = 65536\n", 4, ["broker.port", "65535"]),
    "beyond any integer": ("[broker]\nport = 99999999999999999999\n", 4, ["broker.port"]),
    "a bad duration": ("[broker]\nkeepalive = 5 parsecs\n", 4, ["broker.keepalive"]),
    "a negative duration": ("[broker]\nkeepalive = -5s\n", 4, ["broker.keepalive"]),
    "a bad choice": ("[daemon]\nrole = devcie\n", None, ["daemon.role", "device"]),
    "a bad boolean": ("[broker]\ntls = perhaps\n", 4, ["broker.tls"]),
    "an empty value": ("[broker]\nport =\n", 4, ["broker.port"]),
    "a line without =": ("[broker]\nport 1883\n", 4, []),
    "an open bracket": ("[broker\nport = 1883\n", 3, []),
    "an indented line": ("[broker]\nhost = localhost\n  port = 1883\n", 5, ["indent"]),
    "a line too long": ("[broker]\nhost = " + "h" * 100_000 + "\n", 4, ["bytes"]),
    "a byte that is no UTF-8": (b"[broker]\nusername = \xff\xfe\n", 4, []),
    "a NUL": (b"[broker]\nusername = a\0b\n", 4, []),
    "a bad topic": ("[topics]\ntelemetry = {id}/#\n", 4, ["topics.telemetry"]),
    "an unknown field of a topic": ("[topics]\ntelemetry = {di}/x\n", 4, ["topics.telemetry"]),
    "a bad condition": ("[rule r]\nwhen = light <\nthen = {\"a\": 1}\n", 4, ["r.when", "column"]),
    "a number for a condition": ("[rule r]\nwhen = light\nthen = {\"a\": 1}\n", 4, ["r.when"]),
    "a bad command": ("[rule r]\nwhen = light < 3\nthen = {led_on: 1}\n", 5, ["r.then"]),
    "an envelope in a command": (
        "[rule r]\nwhen = light < 3\nthen = {\"$action\": \"x\"}\n", 5, ["r.then"],
    ),
    "a rule without then": ("[rule r]\nwhen = light < 3\n", 3, ["then"]),
    "min above max": (
        "[actuator a]\ndriver = file\npath = /x\ntype = number\nmin = 5\nmax = 1\n", None, ["max"],
    ),
    "an open quote": ("[sensor s]\ndriver = exec\ncommand = /bin/echo 'x\n", 5, ["command"]),
}  # fmt: skip


def lines_of(result, path):
    """(line number, text) of each reported error."""
    found = re.findall(rf"{re.escape(str(path))}:(\d+): (.*)", result.stderr + result.stdout)
    return [(int(line), text) for line, text in found]


@pytest.mark.parametrize("text,line,fragments", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("check", [["--check-config"], []], ids=["check", "start"])
def test_bad_configuration_is_refused_where_it_is(tmp_path, text, line, fragments, check):
    head = "[daemon]\nid = lamp1\n"
    if isinstance(text, str):
        text = text.encode()
    if text.startswith(b"[daemon]\n"):  # a section of one name stands once
        head, text = "", text
    result = run(*check, config=head.encode() + text, directory=tmp_path)
    assert result.returncode == BAD_CONFIGURATION, result
    errors = lines_of(result, tmp_path / "nightlightd.conf")
    assert errors, result
    if line is not None:
        errors = [error for error in errors if error[0] == line]
        assert errors, f"nothing at line {line}: {result}"
    assert any(all(each in error[1] for each in fragments) for error in errors), errors
    assert max(len(error[1]) for error in errors) < 1000


def test_every_error_is_reported_in_one_run(tmp_path):
    text = """[daemon]
role = devcie
[broker]
port = 0
hots = localhost
[sensor light]
driver = fiel
[sensor heat]
driver = file
path = /x
interval = soon
[rule r]
when = light <
then = {"led_on": maybe}
"""
    (tmp_path / "conf.d").mkdir()
    more = tmp_path / "conf.d" / "50-more.conf"
    more.write_text("[broker]\ntls = perhaps\n[nonsense]\n")
    result = run("--check-config", config=text, directory=tmp_path)
    assert result.returncode == BAD_CONFIGURATION
    errors = {line for line, _ in lines_of(result, tmp_path / "nightlightd.conf")}
    assert {2, 4, 5, 7, 11, 13, 14} <= errors, result.stderr
    assert {line for line, _ in lines_of(result, more)} == {2, 3}, result.stderr


def test_errors_come_in_the_form_of_the_manual(tmp_path):
    result = run("--check-config", config="[broker]\nport = 70000\n", directory=tmp_path)
    (error,) = lines_of(result, tmp_path / "nightlightd.conf")
    assert error[0] == 2
    assert re.match(r"broker\.port: .+", error[1])


def test_an_empty_file_is_the_defaults(tmp_path):
    assert run("--check-config", config="", directory=tmp_path).returncode == 0


def test_a_good_file_passes(tmp_path):
    result = run("--check-config", config=GOOD, directory=tmp_path)
    assert result.returncode == 0, result


def test_a_missing_file_is_a_bad_configuration(tmp_path):
    missing = tmp_path / "nowhere.conf"
    result = run("--config", missing, "--check-config")
    assert result.returncode == BAD_CONFIGURATION
    assert str(missing) in result.stderr


def test_a_directory_for_a_file_is_a_bad_configuration(tmp_path):
    result = run("--config", tmp_path, "--check-config")
    assert result.returncode == BAD_CONFIGURATION
    assert str(tmp_path) in result.stderr


def test_comments_stand_on_lines_of_their_own(tmp_path):
    text = "# a comment\n; another\n[broker]\nusername = a;b # c\nport = 1234\n"
    result = run("--print-config", config=text, directory=tmp_path)
    assert result.returncode == 0, result
    assert "a;b # c" in result.stdout


def test_what_inih_would_cut_as_a_comment_is_refused(tmp_path):
    result = run("--check-config", config="[broker]\nusername = a ;b\n", directory=tmp_path)
    assert result.returncode == BAD_CONFIGURATION, result
    assert [line for line, _ in lines_of(result, tmp_path / "nightlightd.conf")] == [2]


def test_windows_line_ends_do_not_change_values(tmp_path):
    result = run("--print-config", config=b"[broker]\r\nusername = joe\r\n", directory=tmp_path)
    if result.returncode == 0:
        assert re.search(r"^username = joe\s*(#.*)?$", result.stdout, re.M), repr(result.stdout)
    else:
        assert result.returncode == BAD_CONFIGURATION


def settings(text):
    """What a printed configuration sets, without comments: {section: {key: value}}."""
    found, section = {}, None
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = found.setdefault(line, {})
        elif line and line[0] not in "#;":
            key, _, rest = line.partition("=")
            section[key.strip()] = rest.strip()
    return found


def test_the_printed_configuration_loads_again_as_it_is(tmp_path):
    first = run("--print-config", config=GOOD, directory=tmp_path)
    assert first.returncode == 0, first
    again = tmp_path / "again"
    again.mkdir()
    second = run("--print-config", config=first.stdout, directory=again)
    assert second.returncode == 0, second
    assert settings(first.stdout) == settings(second.stdout)
    printed = settings(first.stdout)
    assert printed["[broker]"]["host"] == "127.0.0.1"
    assert printed["[rule nightlight]"]["when"] == "light < 300"
    assert printed["[sensor light]"]["interval"] == "100ms"


def test_the_printed_configuration_says_where_a_value_comes_from(tmp_path):
    text = "[daemon]\nid = lamp1\n[broker]\nport = 1234\n"
    result = run("--print-config", config=text, directory=tmp_path)
    assert re.search(rf"{re.escape(str(tmp_path))}/nightlightd\.conf:4", result.stdout), result.stdout


def test_the_printed_configuration_holds_no_secret(tmp_path):
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "psk").write_text("c0ffee42c0ffee42\n")
    text = configs.base(8883, broker=f"""username = joe
password_file = {tmp_path}/password
tls = yes
psk_identity = joe
psk_file = {tmp_path}/psk
""")  # fmt: skip
    result = run("--print-config", config=text, directory=tmp_path)
    assert result.returncode == 0, result
    assert "sesame" not in result.stdout + result.stderr
    assert "c0ffee" not in result.stdout + result.stderr


def test_later_files_win_in_the_order_of_their_names(tmp_path):
    directory = tmp_path / "conf.d"
    directory.mkdir()
    (directory / "20-late.conf").write_text("[broker]\nport = 20\n")
    (directory / "10-early.conf").write_text("[broker]\nport = 10\nkeepalive = 33s\n")
    (directory / "30-ignored.conf.bak").write_text("[broker]\nport = 30\n")
    (directory / ".40-hidden.conf").write_text("[broker]\nport = 40\n")
    result = run("--print-config", config=GOOD, directory=tmp_path)
    assert result.returncode == 0, result
    printed = settings(result.stdout)["[broker]"]
    assert printed["port"] == "20"
    assert printed["keepalive"] == "33s"
    assert printed["host"] == "127.0.0.1"
    assert "20-late.conf:2" in result.stdout


def test_a_later_file_adds_to_a_named_section(tmp_path):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "light.conf").write_text("[sensor light]\ninterval = 7s\n")
    result = run("--print-config", config=GOOD, directory=tmp_path)
    assert result.returncode == 0, result
    assert settings(result.stdout)["[sensor light]"]["interval"] == "7s"
    assert settings(result.stdout)["[sensor light]"]["path"] == "/run/light"


def test_the_role_on_the_command_line_wins(tmp_path):
    result = run("--role", "device", "--print-config", config=GOOD, directory=tmp_path)
    assert result.returncode == 0, result
    assert settings(result.stdout)["[daemon]"]["role"] == "device"


def test_a_bad_role_on_the_command_line_is_refused(tmp_path):
    result = run("--role", "devcie", "--check-config", config=GOOD, directory=tmp_path)
    assert result.returncode in (1, BAD_CONFIGURATION)
    assert "devcie" in result.stderr


def test_the_default_id_is_the_host_and_eight_digits(tmp_path):
    result = run("--print-config", config="", directory=tmp_path)
    assert result.returncode == 0, result
    # As resolved, or as the specifiers that stand for it.
    assert re.search(r"^id = ", result.stdout, re.M) or "%H" in result.stdout, result.stdout


def test_help_names_every_option():
    result = run("--help")
    assert result.returncode == 0
    for option in ("--config", "--role", "--check-config", "--print-config", "--version", "--help"):
        assert option in result.stdout


def test_version_is_one_line():
    result = run("--version")
    assert result.returncode == 0
    assert re.match(r"^nightlightd \d+\.\d+\.\d+", result.stdout)


@pytest.mark.parametrize("arguments", [["--nonsense"], ["surplus"], ["--config"]])
def test_a_bad_command_line_is_refused(arguments):
    result = run(*arguments)
    assert result.returncode == 1, result
    assert result.stderr
    assert not result.stdout


@pytest.mark.parametrize("host", ["test.mosquitto.org", "TEST.Mosquitto.Org", "localhost test.mosquitto.org"])
def test_a_server_for_every_device_of_a_public_broker_is_refused(tmp_path, host):
    """Or the rules would switch strangers' lamps. --check-config: no traffic leaves the machine."""
    text = f"[daemon]\nrole = server\nid = server1\n[broker]\nhost = {host}\n{configs.RULE}"
    result = run("--check-config", config=text, directory=tmp_path)
    assert result.returncode == BAD_CONFIGURATION, result
    assert "server.devices" in result.stderr
    named = text + "[server]\ndevices = lamp1 lamp2\n"
    assert run("--check-config", config=named, directory=tmp_path).returncode == 0


def test_a_device_on_a_public_broker_is_fine(tmp_path):
    text = "[daemon]\nrole = device\nid = lamp1\n[broker]\nhost = test.mosquitto.org\n"
    assert run("--check-config", config=text, directory=tmp_path).returncode == 0
