"""The manifest of a release: the SHA-256 of every file, what it is, and what made it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from tckr.audit.attack_results import Result
from tckr.errors import UserError
from tckr.release.certificate import Made
from tckr.release.publication import Publication

MANIFEST = "manifest.json"
FILES = {
    "certificate.json": "the certificate for programs",
    "certificate.html": "what this is, what is proven and measured of it, and whether it may go; prints to two sheets",
    "README.md": "what lies here",
}
WHY_UNSIGNED = (
    "No key was given. Whoever can change this folder can change this file too: compare its own SHA-256, which the"
    " release and its verification print, with the one that you got from the sender by another way."
)


class File(Result):
    """One file of a release."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its content")
    size: int = Field(ge=0, description="bytes")
    what: str = Field(description="what it is")


class ReleaseManifest(Result):
    """Everything that `manifest.json` contains."""

    version: Literal[1] = 1
    made: Made = Field(description="by which run, commit and versions")
    signed: bool = Field(description="whether a signature stands for this file: manifest.c2pa")
    why_unsigned: str | None = Field(description="what that means; None: it is signed")
    publication: Publication | None = Field(
        None, description="what the cards say of who hands it out; None: there are no cards"
    )
    files: dict[str, File] = Field(description="every other file of the folder, by path")

    def save(self, path: Path) -> None:
        """Write the manifest."""
        path.write_text(self.model_dump_json(indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ReleaseManifest":
        """Read the manifest of a folder.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        path = folder / MANIFEST
        remedy = "name a folder that the pipeline release wrote: data/09_release/<version>."
        if not path.is_file():
            raise UserError(f"{path} is missing: {folder} is no release.", remedy)
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except (ValidationError, ValueError, OSError) as error:
            raise UserError(f"{path} is no readable manifest.", remedy) from error


def make_manifest(
    folder: Path,
    made: Made,
    what: Mapping[str, str],
    publication: Publication | None = None,
    signed: bool = False,
) -> ReleaseManifest:
    """Return the manifest of the files of a folder.

    Args:
        folder: of the release.
        made: by what.
        what: what each file is, by its path.
        publication: who hands it out, if there are cards.
        signed: whether it will be.
    """
    files = {
        path: File(
            sha256=sha256_of(folder / path), size=(folder / path).stat().st_size, what=what[path]
        )
        for path in sorted(what)
    }
    return ReleaseManifest(
        made=made,
        signed=signed,
        why_unsigned=None if signed else WHY_UNSIGNED,
        publication=publication,
        files=files,
    )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "empty"
    >>> file.touch()
    >>> sha256_of(file)[:8]
    'e3b0c442'
    """
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
