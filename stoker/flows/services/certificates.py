"""Certificates for mutual TLS between the parts of a server on this machine, made anew at each of its starts.

One authority signs one certificate, which every part shows as server and as client; then the authority's key is
forgotten. So no other certificate is ever accepted, and one of an earlier start is worth nothing.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stoker.flows.private import write_private

# No dates: a server may run for years, and the clock of a laptop may be set back. The keys change at each start.
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # "no well-defined expiration date": RFC 5280, 4.1.2.5


@dataclass(frozen=True, slots=True)
class Certificates:
    """The files, which hold PEM: the authority's certificate, the parts' certificate, and its key."""

    authority: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """What a client needs to be let in, and to know the server."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_certificates(folder: Path, host: str) -> Certificates:
    """Write new certificates for the address ``host`` into a folder, in files that only their owner reads."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def begun(name: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(named(name)).issuer_name(named("stoker authority"))
        builder = builder.public_key(public_key).serial_number(x509.random_serial_number())
        return builder.not_valid_before(_BEGIN).not_valid_after(_END)

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signs = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    known_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    authority = (
        begun("stoker authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        begun("stoker", key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(known_by, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    made = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    write_private(made.authority, authority.public_bytes(pem).decode())
    write_private(made.certificate, certificate.public_bytes(pem).decode())
    write_private(made.key, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain).decode())
    return made
