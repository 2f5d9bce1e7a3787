"""Sign the manifest of a release with the owner's key, as C2PA does (spec.c2pa.org, 2.x): a sidecar `manifest.c2pa`.

The sidecar binds the SHA-256 of `manifest.json`, which has the SHA-256 of everything else, to a certificate, and says with C2PA's
`digitalSourceType` what the release is. Embedding a manifest into every PNG would change the images after they were attacked,
and C2PA has no way into a Parquet file; a sidecar covers both, and the student.

c2pa-python signs (the extra `tckr[signing]`); it asks no server: no time stamp, no revocation.
"""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from tckr.audit.attack_results import Result
from tckr.engine.credentials import passphrase
from tckr.errors import UserError
from tckr.options import Options

SIGNATURE = "manifest.c2pa"
FORMAT = "application/json"
CREDENTIALS = "release"  # name of the passphrase in Kedro's credentials
# What was drawn by a trained model (IPTC), and data other than media that follow from one (C2PA).
MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
DATA = "http://c2pa.org/digitalsourcetype/trainedAlgorithmicData"
ABOUT = {
    MEDIA: "The images of recycled_set, whose SHA-256 this file lists, were drawn by a trained generator.",
    DATA: "The files whose SHA-256 this file lists follow from a trained model.",
}
INSTALL = "install the extra: pip install 'tckr[signing]'."
WHICH_KEY = (
    "give an Ed25519, ECDSA (P-256, P-384, P-521) or RSA key as PEM; see docs/release.md, Signing."
)
UNTRUSTED = {"signingCredential.untrusted"}  # what C2PA says of a signer whom it does not know
# What a verifier can do about it, by C2PA's code.
FOUND = {
    "assertion.dataHash.mismatch": "manifest.json is not what was signed",
    "signingCredential.expired": "the signer's certificate has expired",
}


class Signing(Options):
    """The key that signs; both None: the manifest is not signed."""

    certificate: str | None = Field(
        None, description="PEM file: the signer's certificate, then those of its issuers"
    )
    key: str | None = Field(None, description="PEM file: the private key of that certificate")

    def signer(self) -> "Signer | None":
        """Return the signer, checked; None if there is no key.

        Raises:
            UserError: a file is missing or no PEM, the passphrase is wrong, key and certificate do not belong together, C2PA
                does not accept them, or c2pa-python is not installed.
        """
        if self.certificate is None and self.key is None:
            return None
        if self.certificate is None or self.key is None:
            missing = "key" if self.key is None else "certificate"
            raise UserError(
                f"signing.{missing} is missing.", "give both signing.certificate and signing.key."
            )
        _c2pa()
        chain, key = _read("certificate", self.certificate), _read("key", self.key)
        found = _signer(chain, key, self)
        _signed(b"{}", "", "", DATA, found)  # whether C2PA accepts the certificate
        return found


@dataclass(frozen=True)
class Signer:
    """A key with its certificates.

    Attributes:
        chain: PEM, the signer's certificate first.
        key: PEM (PKCS #8), not encrypted.
        algorithm: in C2PA's words, such as `es256`.
    """

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str


class SignatureError(Exception):
    """A signature is missing or wrong; says what in a few words."""


class Signature(Result):
    """A signature that is right."""

    name: str = Field(description="common name of the signer's certificate, as it says")
    organisation: str = Field(description="of the same; empty if it names none")
    serial_number: str = Field(description="of the certificate")
    algorithm: str = Field(description="in C2PA's words, such as Es256")
    trusted: bool = Field(description="whether it was issued by whom the verifier named")
    source_type: str = Field(description="C2PA's digitalSourceType")

    @property
    def described(self) -> str:
        """Return who signed, and whether that is known."""
        of = f" ({self.organisation})" if self.organisation else ""
        who = (
            f"signed by {self.name}{of}, certificate number {self.serial_number}, {self.algorithm}"
        )
        if self.trusted:
            return f"{who}, whose certificate you trust"
        return f"{who}; whether that certificate is theirs was not checked: add signer=<PEM file of their issuer>"


def sign(folder: Path, release: str, version: str, source_type: str, signer: Signer) -> None:
    """Write `manifest.c2pa` beside `manifest.json`.

    Args:
        folder: of the release, with its manifest.
        release: its identifier.
        version: of tckr.
        source_type: C2PA's digitalSourceType.
        signer: whose key signs.

    Raises:
        UserError: C2PA does not accept the certificate.
    """
    content = (folder / "manifest.json").read_bytes()
    signature = _signed(content, release, version, source_type, signer)
    (folder / SIGNATURE).write_bytes(signature)


def check_signature(folder: Path, anchors: Path | None = None) -> Signature:
    """Return whose signature stands for the manifest of a folder.

    Args:
        folder: of a signed release.
        anchors: PEM file of the certificates of issuers that the verifier trusts; with that of a signer beside them, no other
            certificate of these issuers will do.

    Raises:
        UserError: c2pa-python is not installed, or the anchors cannot be read.
        SignatureError: it is missing or wrong, or, with anchors, by somebody else.
    """
    c2pa = _c2pa()
    issuers, serials = ("", set()) if anchors is None else _trusted(anchors)
    file = folder / SIGNATURE
    if not file.is_file():
        raise SignatureError(f"{SIGNATURE} is missing")
    try:
        reader = c2pa.Reader(
            FORMAT,
            io.BytesIO((folder / "manifest.json").read_bytes()),
            manifest_data=file.read_bytes(),
            context=c2pa.Context(settings=c2pa.Settings.from_dict(_settings(issuers))),
        )
        found = json.loads(reader.json())
        claim = found["manifests"][found["active_manifest"]]
        info = claim["signature_info"]
    except (c2pa.C2paError, ValueError, KeyError) as error:
        raise SignatureError(f"{SIGNATURE} is no readable signature") from error
    state = found.get("validation_state")
    codes = {status["code"] for status in found.get("validation_status", ())}
    if state not in ("Valid", "Trusted"):
        changed = f"{SIGNATURE} was changed ({', '.join(sorted(codes - UNTRUSTED))})"
        raise SignatureError("; ".join(FOUND[code] for code in FOUND if code in codes) or changed)
    signature = Signature(
        name=str(info.get("common_name", "")),
        organisation=str(info.get("issuer", "")),
        serial_number=str(info.get("cert_serial_number", "")),
        algorithm=str(info.get("alg", "")),
        trusted=state == "Trusted" and (not serials or info.get("cert_serial_number") in serials),
        source_type=_source_type(claim),
    )
    if anchors is not None and not signature.trusted:
        raise SignatureError(
            f"it was signed by {signature.name}, whom {anchors} does not vouch for"
        )
    return signature


def _signed(content: bytes, release: str, version: str, source_type: str, signer: Signer) -> bytes:
    """Return the sidecar of a content.

    Raises:
        UserError: C2PA does not accept the certificate.
    """
    c2pa = _c2pa()
    action = {
        "action": "c2pa.created",
        "digitalSourceType": source_type,
        "description": ABOUT[source_type],
    }
    claim = {
        "claim_generator_info": [{"name": "tckr", "version": version or "unknown"}],
        "title": f"manifest.json of release {release}",
        "format": FORMAT,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}, "created": True}
        ],
    }
    try:
        info = c2pa.C2paSignerInfo(signer.algorithm, signer.chain, signer.key, None)
        builder = c2pa.Builder.from_json(json.dumps(claim))
        builder.set_no_embed()
        made = c2pa.Signer.from_info(info)
        return bytes(builder.sign(made, FORMAT, io.BytesIO(content), io.BytesIO()))
    except c2pa.C2paError as error:
        raise UserError(
            f"C2PA does not sign with this certificate: {_line(error)}.",
            "use one that C2PA accepts (signed by an issuer, for digitalSignature, with the purpose emailProtection); see"
            " docs/release.md, Signing.",
        ) from error


def _trusted(file: Path) -> tuple[str, set[str]]:
    """Return the issuers' certificates of a PEM file, and the serial numbers of the others, which are signers'.

    Raises:
        UserError: it cannot be read, or has no issuer's.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    content = _read("signer", str(file))
    remedy = "name a PEM file with the certificate of whoever issued the signer's."
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise UserError(f"{file} holds no readable certificate.", remedy) from error
    issuers, serials = "", set()
    for one in found:
        if _issues(one):
            issuers += one.public_bytes(Encoding.PEM).decode()
        else:
            serials.add(str(one.serial_number))
    if not issuers:
        raise UserError(f"{file} holds no issuer's certificate.", remedy)
    return issuers, serials


def _issues(certificate: Any) -> bool:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return bool(found.value.ca)


def _settings(issuers: str) -> dict[str, Any]:
    """Return settings with which nothing is fetched, and nobody is trusted but whom the verifier names."""
    trust = {"user_anchors": issuers} if issuers else {}
    verify = {"verify_trust": True, "ocsp_fetch": False, "remote_manifest_fetch": False}
    return {"trust": trust, "verify": verify}


def _source_type(claim: dict[str, Any]) -> str:
    for assertion in claim.get("assertions", ()):
        for action in assertion.get("data", {}).get("actions", ()):
            if "digitalSourceType" in action:
                return str(action["digitalSourceType"])
    return ""


def _signer(chain: bytes, key: bytes, options: Signing) -> Signer:
    """Return key and certificates as C2PA takes them, checked that they belong together."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    secret = passphrase(CREDENTIALS)
    try:
        private: Any = serialization.load_pem_private_key(
            key, None if secret is None else secret.get_secret_value().encode()
        )
    except TypeError as error:  # a passphrase is missing, or there is one that is not needed
        raise UserError(
            f"signing.key, {options.key}: {_line(error)}.",
            f"put `{CREDENTIALS}: {{passphrase: ...}}` into conf/local/credentials.yml if the key is encrypted, and nothing"
            " if it is not.",
        ) from error
    except ValueError as error:
        raise UserError(
            f"signing.key, {options.key}, is no readable private key, or its passphrase is wrong.",
            WHICH_KEY,
        ) from error
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise UserError(
            f"signing.certificate, {options.certificate}, holds no readable certificate.", WHICH_KEY
        ) from error
    public = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if first.public_key().public_bytes(*public) != private.public_key().public_bytes(*public):
        raise UserError(
            f"The first certificate of {options.certificate} is not of the key {options.key}.",
            "put the signer's own certificate first, those of its issuers after it.",
        )
    plain = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Signer(chain=chain, key=plain, algorithm=_algorithm(private))


def _algorithm(private: Any) -> str:
    """Return C2PA's name of the signatures that a key makes.

    Raises:
        UserError: C2PA has none.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in curves:
            return curves[private.curve.name]
    raise UserError("signing.key is of a kind that C2PA does not know.", WHICH_KEY)


def _read(what: str, path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(
            f"The file of {what}, {path}, cannot be read: {error.strerror}.",
            "name a PEM file that is there.",
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _c2pa() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise UserError("Signatures need c2pa-python, which is not installed.", INSTALL) from error
    return c2pa
