"""The site's certificate authority and the certificate of its REST API.

The authority is made once, at `init`, with an ECDSA P-256 key; clients trust `ca.pem`. The server certificate names
every address under which the API is reached; `issue` makes a new one under the same authority.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpuserver.protocol.control.curve import write_private

AUTHORITY_YEARS, SERVER_DAYS = 10, 397
"""397 days: more is not accepted by common TLS clients."""


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_authority(folder: Path, site: str) -> None:
    """Write `ca.pem` and `ca.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(f"gpuferry {site}"))
        .issuer_name(_name(f"gpuferry {site}"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(folder / "ca.key", _pem(key))
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def issue(folder: Path, names: list[str]) -> None:
    """Write `tls.pem` (with the authority behind it) and `tls.key` for these host names and addresses."""
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    signer = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{folder / 'ca.key'} is not the key that `init` made")
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    write_private(folder / "tls.key", _pem(key))
    chain = certificate.public_bytes(serialization.Encoding.PEM) + authority.public_bytes(serialization.Encoding.PEM)
    (folder / "tls.pem").write_bytes(chain)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def described(folder: Path) -> list[dict[str, object]]:
    """The site's certificates as people look at them: its authority, and that of the REST API."""
    made = []
    for role, name in (("authority", "ca.pem"), ("rest-api", "tls.pem")):
        certificate = x509.load_pem_x509_certificate((folder / name).read_bytes())
        try:
            alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = [str(each.value) for each in alternatives]
        except x509.ExtensionNotFound:
            names = []
        made.append(
            {
                "role": role,
                "subject": certificate.subject.rfc4514_string(),
                "names": names,
                "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
                "not_before": certificate.not_valid_before_utc,
                "not_after": certificate.not_valid_after_utc,
                "days_left": (certificate.not_valid_after_utc - datetime.now(UTC)).days,
            }
        )
    return made


def days_left(folder: Path) -> int:
    """How long the API's certificate is valid still, in days."""
    certificate = x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes())
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days
