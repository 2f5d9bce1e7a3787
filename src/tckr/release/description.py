"""All that describes a release beside its certificate, drawn from the certificate, so that it can be drawn again.

`describe` is what a release writes and what its verification compares: a card, a Croissant file or a registry's entry whose
figures are not the certificate's is found, also where somebody let the manifest agree.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from tckr.release.certificate import Certificate
from tckr.release.croissant import croissant
from tckr.release.deployment import deployment
from tckr.release.model_card import model_cards
from tckr.release.publication import Publication

# Text and meaning of files, by path.
Described: TypeAlias = Mapping[str, tuple[str, str]]
WRITERS: tuple[Callable[[Path, Certificate, Publication], Described], ...] = (
    model_cards,
    croissant,
    deployment,
)


def describe(folder: Path, certificate: Certificate, publication: Publication) -> Described:
    """Return the text of every file that describes a release, and what the file is, by its path.

    Args:
        folder: of the release, with all that goes.
        certificate: of the release, with the hashes of that.
        publication: who hands it out.
    """
    return {
        path: found
        for write in WRITERS
        for path, found in write(folder, certificate, publication).items()
    }


def describe_by(publication: Publication) -> Callable[[Path, Certificate], Mapping[str, str]]:
    """Return what writes these files into the folder of a release (`tckr.release.bundle.Writer`)."""

    def write(folder: Path, certificate: Certificate) -> Mapping[str, str]:
        found = describe(folder, certificate, publication)
        for path, (text, _) in found.items():
            (folder / path).write_text(text, "utf-8")
        return {path: what for path, (_, what) in found.items()}

    return write


def changed(folder: Path, certificate: Certificate, publication: Publication) -> Iterator[str]:
    """Yield the files that are missing, or are not what the certificate says."""
    for path, (text, _) in describe(folder, certificate, publication).items():
        file = folder / path
        if not file.is_file() or file.read_bytes() != text.encode("utf-8"):
            yield path
