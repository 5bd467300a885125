"""Certificates for TLS, of an authority that is made for the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme
from distributed import security

#: It has no types.
Security: Any = security.Security


class Certificates:
    """A certificate that scheduler, nodes and clients share, and the authority that signed it."""

    def __init__(self, folder: Path, *hosts: str) -> None:
        """
        Args:
            hosts: the addresses that it is for.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.authority, self.certificate = str(folder / "ca.pem"), str(folder / "certificate.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        issued = authority.issue_cert(*(hosts or ("127.0.0.1",)))
        issued.private_key_and_cert_chain_pem.write_to_path(self.certificate)

    @property
    def arguments(self) -> list[str]:
        """For Dask's commands."""
        own = self.certificate
        return ["--tls-ca-file", self.authority, "--tls-cert", own, "--tls-key", own]

    @property
    def security(self) -> Any:
        """For a client."""
        return Security(
            tls_ca_file=self.authority,
            tls_client_cert=self.certificate,
            tls_client_key=self.certificate,
            require_encryption=True,
        )
