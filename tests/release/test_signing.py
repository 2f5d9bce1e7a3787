"""A signature stands for the whole folder, names its signer, and is found wrong after one flipped bit."""

import json
import shutil
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from releases import released
from signers import Signer as Owner
from tckr.engine.credentials import hold
from tckr.errors import UserError
from tckr.release.manifest import sha256_of
from tckr.release.signing import MEDIA, SIGNATURE, Signing
from tckr.release.verify import Verified, verify
from tckr.reporting.certificate import write_certificate

pytest.importorskip("c2pa", reason="the extra tckr[signing] is not installed")


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner") / "pem", "Steward")


@pytest.fixture(scope="module")
def signed(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    released(folder, signer=owner.signing.signer())
    return folder


@pytest.fixture
def folder(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "copy"))


def verified(folder: Path, signer: Path | None = None) -> Verified:
    return verify(folder, write_certificate, signer)


def refusal(folder: Path, signer: Path | None = None) -> str:
    with pytest.raises(UserError) as refused:
        verified(folder, signer)
    return str(refused.value)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_a_signed_release_names_its_signer_and_what_it_is(folder: Path) -> None:
    found = verified(folder)

    assert found.signed
    assert found.signature is not None
    assert (found.signature.name, found.signature.organisation) == ("Steward", "Clinic")
    assert found.signature.serial_number == "4711"
    assert not found.signature.trusted
    assert found.signature.source_type == MEDIA
    assert any("signed by Steward (Clinic)" in text for text in found.sentences)
    assert any("was not checked" in text for text in found.sentences)
    assert "signed by `manifest.c2pa`" in (folder / "README.md").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["signed"] is True
    assert manifest["why_unsigned"] is None


@pytest.mark.parametrize("pem", ["issuer", "certificate"])
def test_whoever_has_the_certificate_knows_the_signer(folder: Path, owner: Owner, pem: str) -> None:
    found = verified(folder, getattr(owner, pem))

    assert found.signature is not None
    assert found.signature.trusted
    assert "whose certificate you trust" in " ".join(found.sentences)


def test_one_flipped_bit_of_the_manifest_is_named(folder: Path) -> None:
    file = folder / "manifest.json"
    flip(file, file.read_bytes().index(b"+00:00") - 1)

    assert "manifest.json is not what was signed" in refusal(folder)


def test_one_flipped_bit_of_the_signature_is_named(folder: Path) -> None:
    file = folder / SIGNATURE
    flip(file, file.read_bytes().index(b"trainedAlgorithmicMedia"))

    assert SIGNATURE in refusal(folder)


def test_a_manifest_that_was_made_to_agree_is_named(folder: Path) -> None:
    weights = folder / "student/model.safetensors"
    flip(weights, -1)
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    content["files"]["student/model.safetensors"]["sha256"] = sha256_of(weights)
    file.write_text(json.dumps(content))

    assert "manifest.json is not what was signed" in refusal(folder)


def test_a_signature_that_was_taken_away_is_named(folder: Path, owner: Owner) -> None:
    (folder / SIGNATURE).unlink()
    assert f"{SIGNATURE} is missing" in refusal(folder)

    file = folder / "manifest.json"
    content = json.loads(file.read_text()) | {"signed": False, "why_unsigned": "no key"}
    file.write_text(json.dumps(content))
    assert (
        verified(folder).signature is None
    )  # that it was signed is known to who asks for a signer alone
    assert "manifest.json is not signed" in refusal(folder, owner.issuer)


def test_somebody_elses_signature_is_named_where_the_signer_is_known(
    folder: Path, owner: Owner, tmp_path: Path
) -> None:
    other = Owner(tmp_path / "other", "Thief", ed25519.Ed25519PrivateKey.generate)
    again = tmp_path / "again"
    again.mkdir()
    released(again, signer=other.signing.signer())

    assert "signed by Thief" in " ".join(verified(again).sentences)
    said = refusal(again, owner.issuer)
    assert "was signed by Thief" in said
    assert "does not vouch for" in said


def test_another_certificate_of_the_same_issuer_will_not_do_where_the_signers_is_given(
    folder: Path, owner: Owner, tmp_path: Path
) -> None:
    colleague = Owner(tmp_path / "other", "Colleague", serial=4712)
    both = tmp_path / "both.pem"
    both.write_bytes(colleague.own + owner.issuer.read_bytes())
    assert "does not vouch for" in refusal(folder, both)

    both.write_bytes(owner.own)
    assert "holds no issuer's certificate" in refusal(folder, both)


def test_an_expired_certificate_is_named(tmp_path: Path) -> None:
    expires = time.time() + 5  # long enough to sign before
    owner = Owner(tmp_path / "own", "Steward", days=5 / 86_400)
    released_to = tmp_path / "release"
    released_to.mkdir()
    released(released_to, signer=owner.signing.signer())
    said = ""
    while not said and time.time() < expires + 30:
        time.sleep(1)
        try:
            verified(released_to)
        except UserError as error:
            said = str(error)

    assert "the signer's certificate has expired" in said


def test_an_encrypted_key_is_opened_by_the_passphrase_of_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Owner(tmp_path / "own", "Steward")
    owner.save_key(b"open sesame")
    monkeypatch.setenv("RELEASE_PASSPHRASE", "wrong")
    with pytest.raises(UserError, match="its passphrase is wrong"):
        owner.signing.signer()
    monkeypatch.delenv("RELEASE_PASSPHRASE")
    with pytest.raises(UserError, match=r"passphrase: \.\.\."):
        owner.signing.signer()
    hold({"release": {"passphrase": "open sesame"}})
    signer = owner.signing.signer()

    assert signer is not None
    assert signer.algorithm == "es256"
    assert "PRIVATE" not in repr(signer)


def test_what_cannot_sign_is_refused_with_its_file(tmp_path: Path, owner: Owner) -> None:
    other = Owner(tmp_path / "other", "Other")
    mixed = Signing(certificate=str(owner.certificate), key=str(other.key))
    with pytest.raises(UserError, match="is not of the key"):
        mixed.signer()
    with pytest.raises(UserError, match=r"signing\.key is missing"):
        Signing(certificate=str(owner.certificate)).signer()
    with pytest.raises(UserError, match="cannot be read"):
        Signing(certificate="none.pem", key=str(owner.key)).signer()
    with pytest.raises(UserError, match="no readable private key"):
        Signing(certificate=str(owner.certificate), key=str(owner.certificate)).signer()
    assert Signing().signer() is None


def test_without_the_extra_a_signature_is_neither_made_nor_checked(
    folder: Path, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)

    with pytest.raises(UserError, match=r"pip install 'tckr\[signing\]'"):
        owner.signing.signer()
    assert "tckr[signing]" in refusal(folder)


def test_a_certificate_of_another_purpose_is_refused(tmp_path: Path) -> None:
    owner = Owner(tmp_path / "own", "Server", purpose=ExtendedKeyUsageOID.SERVER_AUTH)

    with pytest.raises(UserError, match="C2PA does not sign with this certificate"):
        owner.signing.signer()
