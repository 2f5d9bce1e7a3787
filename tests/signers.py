"""Owners of keys that sign releases, with certificates of the form that C2PA asks for."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tckr.release.signing import Signing

PEM = serialization.Encoding.PEM


def p256() -> Any:
    """Return a new ECDSA key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


class Signer:
    """An issuer, and a signer with a certificate of the purpose that C2PA asks for."""

    def __init__(
        self, folder: Path, name: str, make: Callable[[], Any] = p256, **usage: Any
    ) -> None:
        folder.mkdir()
        self.certificate, self.key, self.issuer = (
            folder / f"{part}.pem" for part in ("chain", "key", "issuer")
        )
        issuing, signing = make(), make()
        root = self._certified(f"{name} root", issuing, f"{name} root", issuing, issuer=True)
        own = self._certified(name, signing, f"{name} root", issuing, **usage)
        self.issuer.write_bytes(root.public_bytes(PEM))
        self.own = own.public_bytes(PEM)
        self.certificate.write_bytes(self.own + root.public_bytes(PEM))
        self._private = signing
        self.save_key()

    def save_key(self, passphrase: bytes | None = None) -> None:
        """Write the private key, encrypted or not."""
        locked = (
            serialization.NoEncryption()
            if passphrase is None
            else serialization.BestAvailableEncryption(passphrase)
        )
        self.key.write_bytes(
            self._private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, locked)
        )

    @property
    def signing(self) -> Signing:
        """Return the options with which it signs."""
        return Signing(certificate=str(self.certificate), key=str(self.key))

    @staticmethod
    def _certified(
        name: str,
        key: Any,
        by: str,
        issuing: Any,
        issuer: bool = False,
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        serial: int = 4711,
        days: float = 1.0,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        flags = dict.fromkeys(
            (
                *("digital_signature", "content_commitment", "key_encipherment", "crl_sign"),
                *("data_encipherment", "key_agreement", "key_cert_sign"),
                *("encipher_only", "decipher_only"),
            ),
            False,
        )
        flags["key_cert_sign" if issuer else "digital_signature"] = True
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(by))
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(issuer, None), critical=True)
            .add_extension(x509.KeyUsage(**flags), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.public_key()), False
            )
        )
        if not issuer:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        algorithm = None if isinstance(issuing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(issuing, algorithm)


def _named(name: str) -> x509.Name:
    parts = {NameOID.COMMON_NAME: name, NameOID.ORGANIZATION_NAME: "Clinic"}
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts.items()])
