# SPDX-License-Identifier: LGPL-2.1-or-later
"""A later version of the package, to upgrade to."""

import subprocess

APT = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"


def make_upgrade(deb, directory, edit=lambda root: None):
    """The same package, a version later, after edit(its unpacked root)."""
    root = directory / "root"
    subprocess.run(["dpkg-deb", "-R", deb, root], check=True)
    control = root / "DEBIAN/control"
    version = subprocess.run(["dpkg-deb", "-f", deb, "Version"], capture_output=True, text=True,
                             check=True).stdout.strip()
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}+later"))
    edit(root)
    later = directory / "later.deb"
    subprocess.run(["dpkg-deb", "-b", "--root-owner-group", root, later], check=True,
                   stdout=subprocess.DEVNULL)
    return later
