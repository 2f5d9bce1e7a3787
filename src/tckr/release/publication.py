"""What a release's cards and metadata say that no run can know: who hands it out, under which licence, and where."""

from typing import Literal

from pydantic import Field

from tckr.options import Options

NOT_STATED = "not stated"

# The words of the deployments registry (tckr.release.deployment).
CreatorType = Literal["Government", "Industry", "Nonprofit"]
Sector = Literal["Technology", "Healthcare", "Education", "Government", "Energy", "Finance"]


class Publication(Options):
    """Who hands a release out; what is None is said to be not stated.

    >>> Publication(licence="CC-BY-4.0").hub_licence, Publication().hub_licence
    ('cc-by-4.0', 'other')
    """

    title: str | None = Field(None, min_length=1, max_length=200, description="of the release")
    creator: str | None = Field(
        None, min_length=1, description="person or organisation that answers for it"
    )
    creator_type: CreatorType | None = Field(None, description="what the creator is")
    licence: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.+-]+$", description="identifier of SPDX, such as CC-BY-4.0"
    )
    url: str | None = Field(
        None, pattern=r"^https?://\S+$", description="page of the release, an absolute URL"
    )
    set_id: str | None = Field(
        None,
        pattern=r"^[\w.-]+(/[\w.-]+)?$",
        description="id of the recycled set on the Hugging Face hub",
    )
    region: str | None = Field(
        None, description="that the private images describe, or whose law applies"
    )
    sector: Sector | None = Field(None, description="that the private images are from")
    intended_use: str | None = Field(None, description="what the release is for, a sentence")

    @property
    def hub_licence(self) -> str:
        """Return the licence as the Hugging Face hub writes it."""
        return "other" if self.licence is None else self.licence.lower()

    @property
    def licence_url(self) -> str | None:
        """Return the page of the licence."""
        return None if self.licence is None else f"https://spdx.org/licenses/{self.licence}"
