# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other tests rely on: that the machine forgets, keeps and loses what it should."""


def test_a_restore_forgets(bare):
    bare.machine.save("here")
    bare.run("touch /root/file; sync")
    bare.machine.restore("here")
    assert bare.run("test -e /root/file", check=False)[1] == 1


def test_a_restore_does_not_let_time_pass(bare):
    """But for the time of day: else watchdogs bark at what was saved while it ran."""

    def uptime():
        return float(bare.run("cut -d' ' -f1 /proc/uptime"))

    begin = uptime()
    bare.machine.save("moment")
    bare.run("sleep 20")
    bare.machine.restore("moment")
    assert uptime() < begin + 15


def test_a_power_cut_loses_what_was_not_written_and_keeps_the_rest(bare):
    bare.run("echo kept >/var/kept; sync; echo lost >/var/lost")
    bare.machine.reset()
    assert bare.read("/var/kept") == "kept"
    # Ext4 may have made its name, and not yet what is in it.
    assert bare.run("cat /var/lost", check=False)[0] != "lost"


def test_a_second_disk(bare, tmp_path):
    disk = tmp_path / "disk"
    with open(disk, "wb") as file:
        file.truncate(32 << 20)
    bare.machine.attach({"driver": "raw", "file": {"driver": "file", "filename": str(disk)}})
    bare.run("mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && echo on-the-second-disk >/mnt/x && umount /mnt")
    assert b"on-the-second-disk" in disk.read_bytes()


def test_a_script_that_hangs_is_ended(bare):
    assert bare.run("sleep 1000", limit=1, check=False)[1] == 124
    assert bare.run("echo well") == "well"
