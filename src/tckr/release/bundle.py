"""Write a release into a folder: its things, then the certificate that names their hashes, then the manifest of all."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tckr.release.certificate import Certificate
from tckr.release.manifest import FILES, make_manifest, sha256_of
from tckr.release.manifest import MANIFEST as MANIFEST_NAME
from tckr.release.policy import check

CERTIFICATE, PAGE, README = "certificate.json", "certificate.html", "README.md"
README_TEXT = """\
# Release {release}

{things}
| file | what it is |
| --- | --- |
| `certificate.html` | what this is, what is proven and measured of it, and whether it may go; prints to two sheets |
| `certificate.json` | the same for programs |
| `manifest.json` | SHA-256 of every other file here{signed} |

To verify this folder, with tckr {version} installed in a project:

```bash
kedro run --pipeline=verify_release --params=release=<this folder>
```
"""


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
    """

    certificate: Certificate
    parts: tuple[Part, ...]
    page: Callable[[Certificate], str] = field(repr=False)


def write(release: Release, folder: Path) -> None:
    """Write a release.

    Args:
        release: to be written.
        folder: that exists and is empty.

    Raises:
        UserError: it breaks its policy; then nothing is written.
    """
    certificate = release.certificate
    check(certificate.context.policy_name, certificate.context.clauses)
    what: dict[str, str] = {}
    for part in release.parts:
        part.write(folder / part.place)
        what |= dict.fromkeys(files_below(folder, folder / part.place), part.what)
    hashes = {path: sha256_of(folder / path) for path in sorted(what)}
    data = certificate.data.model_copy(update={"files": hashes})
    certificate = certificate.model_copy(update={"data": data})
    made = certificate.governance.made
    (folder / CERTIFICATE).write_text(certificate.model_dump_json(indent=1) + "\n", "utf-8")
    # Of the text that others will read: what is drawn from it can be drawn again.
    written = Certificate.model_validate_json((folder / CERTIFICATE).read_text("utf-8"))
    (folder / PAGE).write_text(release.page(written), "utf-8")
    text = README_TEXT.format(
        release=made.release,
        things="".join(f"- `{part.place}`: {part.what}\n" for part in release.parts),
        signed="; it is not signed",
        version=made.versions.get("tckr", ""),
    )
    (folder / README).write_text(text, "utf-8")
    what |= FILES
    make_manifest(folder, made, {path: what[path] for path in files_below(folder, folder)}).save(
        folder / MANIFEST_NAME
    )


def files_below(folder: Path, place: Path) -> list[str]:
    """Return the paths, relative to `folder`, of a file or of all files in a folder, sorted."""
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
    return sorted(one.relative_to(folder).as_posix() for one in files)
