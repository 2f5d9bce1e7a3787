"""Write a release into a folder: its things, then the certificate that names their hashes, then the manifest of all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tckr.release.certificate import Certificate
from tckr.release.description import describe_by
from tckr.release.manifest import FILES, make_manifest, sha256_of
from tckr.release.manifest import MANIFEST as MANIFEST_NAME
from tckr.release.policy import check
from tckr.release.publication import Publication
from tckr.release.signing import DATA, MEDIA, SIGNATURE, Signer, sign

CERTIFICATE, PAGE, README = "certificate.json", "certificate.html", "README.md"
NOT_SIGNED = "; it is not signed"
SIGNED = f", signed by `{SIGNATURE}` (C2PA)"
README_TEXT = """\
# Release {release}

{things}
| file | what it is |
| --- | --- |
{beside}| `manifest.json` | SHA-256 of every other file here{signed} |

To verify this folder, with tckr {version} installed in a project:

```bash
kedro run --pipeline=verify_release --params=release=<this folder>
```
"""


# Writes files that describe a release: given its folder, which holds all that goes, and the certificate with the hashes of
# that; returns what each file is that it wrote, by path, which the manifest repeats.
Writer: TypeAlias = Callable[[Path, Certificate], Mapping[str, str]]


@dataclass(frozen=True)
class Part:
    """One thing of a release.

    Attributes:
        place: its folder or file in the release.
        what: the thing in words.
        write: writes it to a path that does not exist yet.
    """

    place: str
    what: str
    write: Callable[[Path], None] = field(repr=False)


@dataclass(frozen=True)
class Release:
    """The plan of what goes out.

    Attributes:
        certificate: without the hashes of files, which are known once they are written.
        parts: what goes.
        page: draws the certificate as HTML.
        publication: who hands it out, for the cards; None: no cards are written.
        signer: whose key signs the manifest; None: it says that it is not signed.
    """

    certificate: Certificate
    parts: tuple[Part, ...]
    page: Callable[[Certificate], str] = field(repr=False)
    publication: Publication | None = None
    signer: Signer | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Refused:
    """No release of a run that is sound otherwise.

    Attributes:
        why: which clause of the policy is broken, or what else forbids it; a sentence.
    """

    why: str

    def __str__(self) -> str:
        """Return what stands where the folder would be named."""
        return f"none. {self.why}"


def write(release: Release, folder: Path) -> None:
    """Write a release.

    Args:
        release: to be written.
        folder: that exists and is empty.

    Raises:
        UserError: it breaks its policy; then nothing is written.
    """
    check(release.certificate.context.policy_name, release.certificate.context.clauses)
    what: dict[str, str] = {}
    for part in release.parts:
        part.write(folder / part.place)
        what |= dict.fromkeys(files_below(folder, folder / part.place), part.what)
    hashes = {path: sha256_of(folder / path) for path in sorted(what)}
    data = release.certificate.data.model_copy(update={"files": hashes})
    certificate = release.certificate.model_copy(update={"data": data})
    who, made, signer = release.publication, certificate.governance.made, release.signer
    cards = () if who is None else (describe_by(who),)
    for writer in (_write_certificate, _page_by(release.page), *cards):
        what |= writer(folder, certificate)
    what |= _write_readme(release, folder, what)
    manifest = make_manifest(folder, made, what, who, signed=signer is not None)
    manifest.save(folder / MANIFEST_NAME)
    if signer is not None:
        kind = MEDIA if "recycled_set" in certificate.context.things else DATA
        sign(folder, made.release, made.versions.get("tckr", ""), kind, signer)


def _write_certificate(folder: Path, certificate: Certificate) -> dict[str, str]:
    (folder / CERTIFICATE).write_text(certificate.model_dump_json(indent=1) + "\n", "utf-8")
    return {CERTIFICATE: FILES[CERTIFICATE]}


def _page_by(draw: Callable[[Certificate], str]) -> Writer:
    def write_page(folder: Path, certificate: Certificate) -> dict[str, str]:
        del certificate
        # Of the text that others will read: what is drawn from it can be drawn again.
        written = Certificate.model_validate_json((folder / CERTIFICATE).read_text("utf-8"))
        (folder / PAGE).write_text(draw(written), "utf-8")
        return {PAGE: FILES[PAGE]}

    return write_page


def _write_readme(release: Release, folder: Path, what: Mapping[str, str]) -> dict[str, str]:
    """Write what lies in the folder, for whoever opens it: the parts, then every file beside them."""
    made, places = release.certificate.governance.made, [part.place for part in release.parts]
    text = README_TEXT.format(
        release=made.release,
        things="".join(f"- `{part.place}`: {part.what}\n" for part in release.parts),
        beside="".join(
            f"| `{path}` | {said} |\n"
            for path, said in what.items()
            if path not in places and path.partition("/")[0] not in places
        ),
        signed=NOT_SIGNED if release.signer is None else SIGNED,
        version=made.versions.get("tckr", ""),
    )
    (folder / README).write_text(text, "utf-8")
    return {README: FILES[README]}


def files_below(folder: Path, place: Path) -> list[str]:
    """Return the paths, relative to `folder`, of a file or of all files in a folder, sorted."""
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return sorted(one.relative_to(folder).as_posix() for one in files)
