"""A certificate authority of the tests' own, and the files that a service or a client needs from it."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Authority:
    """`environment`: the settings of a service with a certificate for loopback; `client`: a client that trusts it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ca = trustme.CA()
        self.ca_file, self.cert, self.key = (directory / name for name in ("ca.crt", "tls.crt", "tls.key"))
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        self.issue()

    def issue(self, name: str = "first", cert: Path | None = None, key: Path | None = None) -> None:
        """Write a new pair over the old one; `name` is in the certificate, as its organizational unit."""
        issued = self._ca.issue_cert("localhost", "127.0.0.1", organization_unit_name=name)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        (cert or self.cert).write_bytes(chain)
        (key or self.key).write_bytes(issued.private_key_pem.bytes())

    @property
    def environment(self) -> dict[str, str]:
        return {"DAEBUS_TLS_CERT": str(self.cert), "DAEBUS_TLS_KEY": str(self.key)}

    def client(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if with_certificate:
            self._ca.issue_cert("client@garden.example").configure_cert(context)
        return context


def unit_of(connection: ssl.SSLSocket) -> str:
    """The name that the peer's certificate was issued with."""
    found = connection.getpeercert()
    assert found
    names = dict(pair for part in found["subject"] for pair in part)  # type: ignore[misc]
    return str(names["organizationalUnitName"])
