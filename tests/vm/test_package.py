# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package in a running system: what a user does with it, upgrade, removal, purge."""

from guest import image
from guest.guest import CONFIG
from guest.upgrade import APT, make_upgrade

# Every path and every account; what comes and goes by itself is left out.
INVENTORY = """
find / -xdev ! -path '/var/log/*' ! -path '/var/cache/*' ! -path '/var/lib/dpkg/*' ! -path '/tmp/*' \\
    ! -path '/var/lib/apt/*' ! -path '/root/*' ! -path '/var/tmp/*' ! -path '/var/lib/systemd/*' \\
    ! -path '/etc/passwd*' ! -path '/etc/group*' ! -path '/etc/shadow*' ! -path '/etc/gshadow*' \\
    ! -path '/etc/.pwd.lock' ! -path '/usr/lib/udev/hwdb.bin' | sort
"""


def test_apt_installs_it_and_leaves_it_to_the_user_to_start_it(vm):
    assert vm.run("systemctl is-enabled nightlightd", check=False)[0] == "disabled"
    assert not vm.is_active()
    assert vm.run("stat -c '%U %a' /var/lib/nightlightd 2>/dev/null || echo none") in ("none", "nightlightd 700")
    assert vm.run("getent passwd nightlightd")
    vm.run("nightlightd --check-config")


def test_the_steps_of_the_readme(vm):
    vm.start_broker()
    listener = vm.listen()
    vm.run("cp /usr/share/doc/nightlightd/examples/nightlight.conf " + CONFIG)
    vm.run("nightlightd --check-config && systemctl enable --now nightlightd")
    name = vm.run("nightlightd --print-config | sed -n 's/^id = \\([^ ]*\\).*/\\1/p' | head -1")
    listener.wait(f"{name}/telemetry", lambda message: 0 <= message["light"] <= 1023)
    listener.wait(f"{name}/state", lambda message: message["led_on"] in (True, False))


def test_an_upgrade_keeps_local_changes_and_restarts_what_runs(vm, deb, tmp_path):
    def edit(root):
        with open(root / CONFIG[1:], "a") as file:
            file.write("# The package's own new line.\n")

    later = make_upgrade(deb, tmp_path, edit)
    vm.start("[daemon]\nid = changed-here\n")
    vm.write("/etc/nightlightd/conf.d/mine.conf", "[daemon]\ngroup = mine\n")
    pid = vm.unit("MainPID")
    vm.write("/root/later.deb", later.read_bytes())
    vm.run(f"{APT} -o DPkg::Options::=--force-confold install /root/later.deb", limit=300)
    assert vm.read(CONFIG) == "[daemon]\nid = changed-here"
    assert "The package's own new line" in vm.read(CONFIG + ".dpkg-dist")
    assert vm.read("/etc/nightlightd/conf.d/mine.conf")
    vm.wait(vm.is_active, "the restart")
    assert vm.unit("MainPID") != pid
    assert vm.run("systemctl is-enabled nightlightd", check=False)[0] == "disabled"


def test_removed_it_stops_and_keeps_the_configuration_purged_nothing_is_left(bare, deb):
    before = set(bare.run(INVENTORY).splitlines())
    bare.write("/root/package.deb", deb.read_bytes())
    bare.run(f"{APT} install /root/package.deb", limit=300)
    bare.start("[daemon]\nid = changed-here\n")
    bare.run(f"{APT} remove nightlightd", limit=300)
    assert not bare.is_active()
    assert bare.read(CONFIG) == "[daemon]\nid = changed-here"
    bare.run(f"{APT} purge nightlightd", limit=300)
    assert bare.run("dpkg-query -W -f '${db:Status-Status}' nightlightd", check=False)[1] != 0
    left = set(bare.run(INVENTORY).splitlines()) - before
    assert not left, left


def test_its_own_smoke_test(vm):
    """What autopkgtest runs wherever the package is tested as installed."""
    vm.write("/root/smoke", (image.TOP / "debian/tests/smoke").read_bytes(), 0o755)
    vm.run("AUTOPKGTEST_TMP=$(mktemp -d) /root/smoke", limit=240)
