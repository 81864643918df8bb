# SPDX-License-Identifier: LGPL-2.1-or-later
"""Certificates made by openssl for one test run."""

import subprocess


class Authority:
    """A certificate authority in a directory; ca is its certificate."""

    def __init__(self, directory, name="test authority"):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = directory / "ca.crt"
        self._key = directory / "ca.key"
        openssl("req", "-x509", *new_key(self._key), "-out", self.ca, "-days", 2,
                "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE")  # fmt: skip

    def issue(self, name, alternative="IP:127.0.0.1,DNS:localhost", days=2):
        """A certificate and its key, as paths."""
        certificate = self.directory / f"{name}.crt"
        key = self.directory / f"{name}.key"
        request = self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={alternative}\n")
        openssl("req", *new_key(key), "-out", request, "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-CAcreateserial",
                "-out", certificate, "-days", days, "-extfile", extensions)  # fmt: skip
        return certificate, key


def new_key(path):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path]


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
