# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the README, the sample and the examples show is what the daemon takes."""

import re
import shutil
import subprocess

import pytest
from paho.mqtt.client import MQTTv5

from support.daemon import ROOT, run
from support.peer import new_client
from support.wait import wait_until

README = re.findall(r"^```ini\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
SAMPLE = ROOT / "conf/nightlightd.conf"
EXAMPLES = sorted(
    path for path in (ROOT / "conf/examples").glob("*.conf") if path.name != "mosquitto.conf"
)


def test_the_example_of_a_broker_lets_as_many_be_in_flight_as_a_device_sends(start_broker, tmp_path):
    passwords = tmp_path / "passwd"
    subprocess.run([shutil.which("mosquitto_passwd"), "-b", "-c", passwords, "lamp", "secret"], check=True)
    lines = (ROOT / "conf/examples/mosquitto.conf").read_text().replace("/etc/mosquitto/passwd", str(passwords))
    settings = re.sub("^listener.*$", "", lines, flags=re.M)
    connacks = []
    client = new_client(protocol=MQTTv5)
    client.username_pw_set("lamp", "secret")
    client.on_connect = lambda *arguments: connacks.append(arguments)
    client.connect("127.0.0.1", start_broker(settings=settings, listener="").port)
    wait_until(lambda: client.loop(0.1) or connacks, "an answer of the broker")
    client.disconnect()
    *_, code, properties = connacks[0]
    assert code == 0
    default = re.search(r"^#max_inflight = (\d+)$", SAMPLE.read_text(), re.M).group(1)
    assert properties.ReceiveMaximum == int(default)


def check(text, directory):
    result = run("--check-config", config=text, directory=directory)
    assert result.returncode == 0, result.stderr


def uncommented(text):
    """With each setting and section header in force; prose has neither form."""
    return re.sub(r"^#(?=\[\w+[^\]]*\]$|\w+ = )", "", text, flags=re.M)


@pytest.mark.parametrize("text", README, ids=range(len(README)))
def test_the_readme_shows_configurations_that_work(tmp_path, text):
    check(text, tmp_path)


def test_the_readme_has_configurations():
    assert len(README) >= 2
    assert "[rule nightlight]" in README[0]


@pytest.mark.parametrize("path", [SAMPLE, *EXAMPLES], ids=lambda path: path.name)
def test_what_is_shipped_works(tmp_path, path):
    check(path.read_text(), tmp_path)


def test_every_setting_of_the_sample_works_once_uncommented(tmp_path):
    text = uncommented(SAMPLE.read_text())
    assert "[rule nightlight]" in text and "\nca_file" in text
    # Of what excludes each other, one: certificates, and an actuator of numbers.
    text = text.replace("tls = no", "tls = yes")
    text = re.sub(r"^psk_\w+ = .*\n", "", text, flags=re.M)
    text = text.replace("type = bool", "type = number").replace("driver = gpio", "driver = log")
    text = re.sub(r"^(initial|safe) = no$", r"\1 = 0", text, flags=re.M)
    text = re.sub(r"^(chip|line) = .*\n", "", text, flags=re.M)
    text = re.sub(r"^(initial|safe) = no$", r"\1 = 0", text, flags=re.M)
    check(text, tmp_path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_an_example_offers_instead_works(tmp_path, path):
    """A commented block of settings takes the place of those of the section above it."""
    sections = re.split(r"(?m)^(?=\[)", path.read_text())
    for i, section in enumerate(sections):
        offered = re.findall(r"^#(\w+ = .*)$", section, re.M)
        if offered:
            header = section.splitlines()[0]
            sections[i] = "\n".join([header, *offered, ""])
    check("".join(sections), tmp_path)
