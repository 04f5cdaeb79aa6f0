"""Trust in a vCenter's certificate: verified by a CA, or pinned by its SHA-256 thumbprint. There is no third way.

pyVmomi's own `thumbprint=` is not enough: it looks at the thumbprint only when verification by CA has failed, and
from then on leaves its shared TLS context unverified, so later connections of the pool are not checked at all.
`PinnedConnection` checks every connection, before a byte is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPSConnection
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from vcenter.errors import CertificateChanged, InvalidRequest, Unreachable


@dataclass(frozen=True)
class Trust:
    """How a server is known. `thumbprint` (SHA-256, hex) pins its certificate; else `ca_file` or the system's CAs
    verify it.
    """

    thumbprint: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        if self.thumbprint:
            object.__setattr__(self, "thumbprint", normal_thumbprint(self.thumbprint))
        if self.thumbprint and self.ca_file:
            raise InvalidRequest("A certificate is either pinned or verified by a CA, not both.")

    def context(self) -> ssl.SSLContext:
        """A fresh TLS context. For a pinned server it verifies nothing by itself: use it with `PinnedConnection`
        only.
        """
        if self.thumbprint:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            return context
        return ssl.create_default_context(cafile=self.ca_file or None)


def normal_thumbprint(text: str) -> str:
    """64 lower-case hex digits from any usual spelling (colons, spaces, upper case). Raises InvalidRequest."""
    digits = text.replace(":", "").replace(" ", "").lower()
    if len(digits) != 64 or any(digit not in "0123456789abcdef" for digit in digits):
        raise InvalidRequest(
            f"{text!r} is not a SHA-256 thumbprint: 64 hex digits, with or without colons.",
            remedy="Take the SHA-256 thumbprint; SHA-1 ones are not accepted.",
        )
    return digits


def shown(thumbprint: str) -> str:
    """The thumbprint as vCenter shows it: upper-case pairs with colons."""
    digits = thumbprint.upper()
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))


def thumbprint_of(certificate: bytes) -> str:
    """SHA-256 of a DER certificate, as 64 lower-case hex digits."""
    return hashlib.sha256(certificate).hexdigest()


def fetch_thumbprint(host: str, port: int = 443, timeout: float = 10.0) -> str:
    """The thumbprint of the certificate that answers at host:port, for a person to compare. It proves nothing by
    itself.
    """
    context = Trust(thumbprint="0" * 64).context()
    try:
        with (
            socket.create_connection((host, port), timeout=timeout) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            certificate = tls.getpeercert(binary_form=True)
    except OSError as lost:
        raise Unreachable(f"No TLS answer from {host}:{port}: {lost}.", object_name=f"{host}:{port}") from lost
    if not certificate:
        raise Unreachable(f"{host}:{port} showed no certificate.", object_name=f"{host}:{port}")
    return thumbprint_of(certificate)


def check_pin(certificate: bytes | None, pinned: str, server: str) -> None:
    """Raises CertificateChanged unless the DER certificate has the pinned thumbprint."""
    seen = thumbprint_of(certificate or b"")
    if not hmac.compare_digest(seen, pinned):
        raise CertificateChanged(
            f"The certificate of {server} is not the pinned one: pinned {shown(pinned)}, seen {shown(seen)}.",
            object_name=server,
        )


def pinned_connection(pinned: str) -> type[HTTPSConnection]:
    """The class of HTTPS connections that check the pinned thumbprint on every connect, before anything is sent."""

    class PinnedConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            try:
                check_pin(self.sock.getpeercert(binary_form=True), pinned, f"{self.host}:{self.port}")
            except BaseException:
                self.close()
                raise

    return PinnedConnection


class _PinnedAdapter(HTTPAdapter):
    """A `requests` adapter that lets urllib3 check the pinned thumbprint on every connection."""

    def __init__(self, pinned: str) -> None:
        self._pinned = pinned
        super().__init__()

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        super().init_poolmanager(
            connections, maxsize, block, assert_fingerprint=self._pinned, assert_hostname=False, **options
        )

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, False, cert)
        conn.assert_fingerprint = self._pinned


def requests_session(trust: Trust) -> requests.Session:
    """A `requests` session with the same trust. Environment variables do not change it (trust_env is off)."""
    session = requests.Session()
    session.trust_env = False
    if trust.thumbprint:
        session.mount("https://", _PinnedAdapter(trust.thumbprint))
        session.verify = False
    elif trust.ca_file:
        session.verify = trust.ca_file
    return session


def fingerprint_session(fingerprint: str) -> requests.Session:
    """A `requests` session that trusts one certificate by its digest (SHA-1 or SHA-256, hex), as vCenter gives it
    for a host.
    """
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", _PinnedAdapter(fingerprint))
    session.verify = False
    return session
