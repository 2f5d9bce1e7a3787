"""Verify a release that somebody was handed."""

from pathlib import Path
from typing import Any

from tckr.errors import UserError


def verify_release(release: str | None, signer: str | None) -> dict[str, Any]:
    """Compute again every hash and every figure of a release that needs no private data.

    Args:
        release: its folder.
        signer: PEM file of the issuers that must have certified whoever signed it; None: whoever signed is named.

    Raises:
        UserError: no folder is named, or it is not what was written: the error names each file and figure.
    """
    if release is None:
        raise UserError(
            "No release is named.",
            "add --params=release=<folder>, such as data/09_release/<version>.",
        )
    from tckr.release.verify import verify
    from tckr.reporting.certificate import write_certificate

    found = verify(Path(release), write_certificate, None if signer is None else Path(signer))
    return {**found.model_dump(mode="json"), "described": found.sentences}
