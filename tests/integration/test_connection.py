# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the daemon gets to its broker: TLS, credentials, old brokers, several hosts; and how it fails."""

import ssl
import subprocess
import time

import paho.mqtt.client as mqtt
import pytest

from support import configs
from support.broker import mosquitto
from support.certs import Authority
from support.fakes import BlackHole, OldBroker
from support.peer import new_client
from support.process import free_port
from support.wait import DEADLINE, holds_for, wait_until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "a stranger")


@pytest.fixture(scope="module")
def server_certificate(authority):
    return authority.issue("server")


def tls_listener(authority, certificate, more="allow_anonymous true"):
    return f"cafile {authority.ca}\ncertfile {certificate[0]}\nkeyfile {certificate[1]}\n{more}"


class House:
    """A device with broker settings of the test's; it is connected when its status is online."""

    def __init__(self, broker, make_daemon, value, settings, host="127.0.0.1", env=None):
        self.broker = broker
        self.light = value("light", 250)
        self.led = value("led")
        config = configs.nightlight(getattr(broker, "port", broker), self.light, self.led, broker=settings)
        self.daemon = make_daemon("lamp1", config.replace("host = 127.0.0.1", f"host = {host}"), env=env)

    def works(self):
        self.daemon.start()
        self.led.wait("1\n")
        return self

    def is_refused(self, *reasons):
        """It says why in a warning or error, and goes on trying."""
        mark = 0
        self.daemon.start()
        lines = self.daemon.wait_log(r"^(warning|error) .*(connect|broker|127\.0\.0\.1|localhost)", mark)
        text = "\n".join(lines).lower()
        assert any(reason in text for reason in reasons), self.daemon.log()
        holds_for(self.daemon.alive, 0.5, "goes on trying")
        assert self.led.read() is None
        return self


@pytest.fixture
def house(make_daemon, value):
    return lambda broker, settings, **kwargs: House(broker, make_daemon, value, settings, **kwargs)


def test_tls_with_an_own_authority(start_broker, house, authority, server_certificate):
    broker = start_broker(listener=tls_listener(authority, server_certificate))
    house(broker, f"tls = yes\nca_file = {authority.ca}").works()


def test_tls_by_name(start_broker, house, authority, server_certificate):
    broker = start_broker(listener=tls_listener(authority, server_certificate))
    house(broker, f"tls = yes\nca_file = {authority.ca}", host="localhost").works()


def test_tls_with_a_client_certificate(start_broker, house, authority, server_certificate):
    listener = tls_listener(authority, server_certificate, "require_certificate true\nallow_anonymous true")
    broker = start_broker(listener=listener)
    certificate, key = authority.issue("lamp1")
    settings = f"tls = yes\nca_file = {authority.ca}\ncert_file = {certificate}\nkey_file = {key}"
    house(broker, settings).works()


def test_tls_without_the_client_certificate_is_refused(start_broker, house, authority, server_certificate):
    listener = tls_listener(authority, server_certificate, "require_certificate true\nallow_anonymous true")
    broker = start_broker(listener=listener)
    house(broker, f"tls = yes\nca_file = {authority.ca}").is_refused("certificate", "handshake", "tls", "ssl")


def test_a_broker_of_a_wrong_authority_is_refused(start_broker, house, authority, stranger, server_certificate):
    broker = start_broker(listener=tls_listener(authority, server_certificate))
    home = house(broker, f"tls = yes\nca_file = {stranger.ca}")
    home.is_refused("certificate", "verif")
    assert not broker.connects("lamp1")


def test_a_broker_outside_the_system_s_store_is_refused(start_broker, house, authority, server_certificate):
    broker = start_broker(listener=tls_listener(authority, server_certificate))
    house(broker, "tls = yes").is_refused("certificate", "verif")


def test_a_broker_of_a_wrong_name_is_refused(start_broker, house, authority):
    certificate = authority.issue("elsewhere", "DNS:broker.example")
    broker = start_broker(listener=tls_listener(authority, certificate))
    home = house(broker, f"tls = yes\nca_file = {authority.ca}", host="localhost")
    home.is_refused("certificate", "verif", "name")
    assert not broker.connects("lamp1")


def test_tls_to_a_broker_without_it_fails_clearly(broker, house, authority):
    house(broker, f"tls = yes\nca_file = {authority.ca}").is_refused("tls", "ssl", "handshake", "protocol")


def test_a_missing_authority_file_is_said(broker, house, tmp_path):
    """Either when the configuration is read, or at each attempt to connect: it is named."""
    home = house(broker, f"tls = yes\nca_file = {tmp_path}/nowhere.crt")
    home.daemon.start()
    wait_until(lambda: "nowhere.crt" in home.daemon.log(), home.daemon.log)
    home.daemon.kill()


def test_a_pre_shared_key(start_broker, house, tmp_path):
    (tmp_path / "keys").write_text("lamp1:c0ffee42c0ffee42\n")
    key = tmp_path / "psk"
    key.write_text("c0ffee42c0ffee42\n")
    broker = start_broker(listener=f"psk_hint test\npsk_file {tmp_path}/keys\nallow_anonymous true")
    house(broker, f"tls = yes\npsk_identity = lamp1\npsk_file = {key}").works()


def test_a_wrong_pre_shared_key_is_refused(start_broker, house, tmp_path):
    (tmp_path / "keys").write_text("lamp1:c0ffee42c0ffee42\n")
    key = tmp_path / "psk"
    key.write_text("badbadbadbad0000\n")
    broker = start_broker(listener=f"psk_hint test\npsk_file {tmp_path}/keys\nallow_anonymous true")
    home = house(broker, f"tls = yes\npsk_identity = lamp1\npsk_file = {key}")
    home.is_refused("tls", "psk", "handshake", "ssl", "key")
    assert "badbad" not in home.daemon.log()


def test_stopping_in_the_middle_of_a_tls_connect_is_a_clean_end(make_daemon, value):
    """The thread that connects may be deep in OpenSSL, whose memory exit(3) frees under its feet."""
    light, led = value("light", 250), value("led")
    config = configs.nightlight(free_port(), light, led, broker="tls = yes")
    hole = BlackHole()
    try:
        for i in range(12):
            text = config.replace("port = ", f"port = {hole.port}\n# ")
            daemon = make_daemon(f"lamp{i}", text.replace("id = lamp1", f"id = lamp{i}")).start()
            count = len(hole.connections)
            wait_until(lambda count=count: len(hole.connections) > count, "the connection")
            time.sleep(0.01 * i)  # another phase of the connect each time
            daemon.stop(timeout=3)
    finally:
        hole.close()


PASSWORD = "open sesame #;= ä"


@pytest.fixture
def guard(tmp_path):
    """The lines of a listener that wants a name and a password."""
    path = tmp_path / "passwords"
    path.touch()
    tool = mosquitto().replace("sbin/mosquitto", "bin/mosquitto_passwd")
    subprocess.run([tool, "-b", path, "joe", PASSWORD], check=True, capture_output=True, timeout=DEADLINE)
    return f"allow_anonymous false\npassword_file {path}"


@pytest.fixture
def guarded(start_broker, guard):
    return start_broker(listener=guard)


def test_a_password_from_a_file(guarded, house, tmp_path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    house(guarded, f"username = joe\npassword_file = {tmp_path}/password").works()


def test_a_password_file_without_a_newline(guarded, house, tmp_path):
    (tmp_path / "password").write_text(PASSWORD)
    house(guarded, f"username = joe\npassword_file = {tmp_path}/password").works()


def test_a_password_from_the_credentials_directory(guarded, house, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt-password").write_text(PASSWORD + "\n")
    settings = "username = joe\npassword_file = mqtt-password"
    house(guarded, settings, env={"CREDENTIALS_DIRECTORY": credentials}).works()


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_a_wrong_password_is_said_and_tried_again(guarded, house, tmp_path, protocol):
    password = tmp_path / "password"
    password.write_text("guess\n")
    home = house(guarded, f"username = joe\npassword_file = {password}\nprotocol = {protocol}")
    home.is_refused("authori", "password", "credential", "refused")
    assert "guess" not in home.daemon.log()
    attempts = len(guarded.grep("(?i)not authorised|New connection"))
    wait_until(lambda: len(guarded.grep("(?i)not authorised|New connection")) > attempts + 2, "more attempts")
    password.write_text(PASSWORD + "\n")  # read anew at each attempt
    home.led.wait("1\n")


def test_another_reason_in_the_same_outage_is_said(broker, guard, house):
    """The broker comes back and wants a password: "closed by the broker" is not the news any more."""
    home = house(broker, "").works()
    broker.stop()
    home.daemon.wait_log("^warning .*(connect|broker)")
    broker.configure("log_type all", guard)
    broker.start()
    home.daemon.wait_log("^warning .*(?i:authori)")


def test_the_log_of_a_long_failure_is_limited(house):
    home = house(free_port(), "")
    home.is_refused("refused", "111")
    holds_for(home.daemon.alive, 3, "goes on trying")
    assert len(home.daemon.grep("^(warning|error|notice)")) <= 12, home.daemon.log()


def test_without_a_password_the_refusal_is_clear(guarded, house):
    house(guarded, "").is_refused("authori", "refused")


@pytest.fixture
def old_broker():
    broker = OldBroker()
    yield broker
    broker.close()


def test_an_old_broker_is_spoken_to_in_its_own_protocol(old_broker, house):
    home = house(old_broker, "")
    home.daemon.start()
    wait_until(lambda: ("lamp1/telemetry", b'{"light":250}') in tight(old_broker), lambda: old_broker.published)
    assert old_broker.levels[0] == 5
    assert 4 in old_broker.levels
    filters = {"lamp1/commands", "+/telemetry"}
    wait_until(lambda: filters <= set(old_broker.subscribed), lambda: old_broker.subscribed)


def tight(broker):
    return [(topic, payload.replace(b" ", b"")) for topic, payload in broker.published]


def test_protocol_311_is_spoken_from_the_start_where_it_is_asked_for(old_broker, house):
    home = house(old_broker, "protocol = 3.1.1")
    home.daemon.start()
    wait_until(lambda: old_broker.published, "telemetry")
    assert set(old_broker.levels) == {4}


def test_protocol_5_does_not_fall_back(old_broker, house):
    home = house(old_broker, "protocol = 5")
    home.daemon.start()
    wait_until(lambda: len(old_broker.levels) >= 3, "three attempts")
    assert set(old_broker.levels) == {5}
    assert home.daemon.grep(r"^(warning|error) .*(?i:protocol version)"), home.daemon.log()


def test_mqtt_5_is_spoken_by_default(broker, house):
    house(broker, "").works()
    assert "p5" in broker.connects("lamp1")[0]


def test_a_second_host_takes_over(start_broker, make_daemon, value):
    """host names several; with one port the second address is another one of loopback."""
    broker = start_broker(host="127.0.0.2")
    light, led = value("light", 250), value("led")
    config = configs.nightlight(broker.port, light, led)
    make_daemon("lamp1", config.replace("host = 127.0.0.1", "host = 127.0.0.1 127.0.0.2")).start()
    led.wait("1\n")


def test_a_unix_socket_is_a_way_to_the_broker(start_broker, make_daemon, value, tmp_path):
    socket = tmp_path / "mqtt.sock"
    start_broker(f"log_type all\nlistener 0 {socket}\nallow_anonymous true\n")
    light, led = value("light", 250), value("led")
    config = configs.nightlight(1883, light, led).replace("host = 127.0.0.1\nport = 1883", f"host = {socket}\ntransport = unix")
    make_daemon("lamp1", config).start()
    led.wait("1\n")


def test_a_refused_subscription_is_said(start_broker, make_daemon, value, tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic write #\n")
    broker = start_broker(listener=f"allow_anonymous true\nacl_file {acl}")
    daemon = make_daemon("lamp1", configs.device(broker.port, value("light", 250), value("led"))).start()
    wait_until(lambda: broker.grep("Sending SUBACK to lamp1"), "the subscription's answer")
    if broker.grep(r"Sending SUBACK to lamp1"):
        holds_for(daemon.alive, 0.3, "alive")


def test_a_second_client_of_the_same_id_does_not_drive_the_two_mad(broker, make_daemon, connect, value):
    """The broker throws the older one out, who comes back: with a delay that grows, not at once."""
    daemon = make_daemon("lamp1", configs.device(broker.port, value("light", 250), value("led"))).start()
    wait_until(lambda: broker.connects("lamp1"), "the daemon's connection")
    connect(broker, client_id="lamp1")
    daemon.wait_log(r"^(warning|notice) ")
    holds_for(daemon.alive, 2, "alive")
    assert len(broker.connects("lamp1")) < 40


def test_a_session_of_the_test_s_own_is_secure(start_broker, connect, authority, server_certificate):
    """That the broker of these tests checks what it is said to check."""
    listener = tls_listener(authority, server_certificate, "require_certificate true\nallow_anonymous true")
    broker = start_broker(listener=listener)
    with pytest.raises((ssl.SSLError, OSError, AssertionError)):
        client = new_client()
        client.tls_set(str(authority.ca))
        client.connect("127.0.0.1", broker.port)
        assert client.loop(1) == mqtt.MQTT_ERR_SUCCESS
        assert client.loop(1) == mqtt.MQTT_ERR_SUCCESS
        assert client.is_connected()
