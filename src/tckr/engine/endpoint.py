"""Typed parameters of an OpenAI-compatible endpoint: what is asked, how, and what it may cost."""

from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tckr.options import Options


class EndpointOptions(Options):
    """Who answers; together with what is asked, this decides the answers."""

    base_url: str = Field(
        "", description="of the interface, up to and with /v1, such as http://localhost:8000/v1"
    )
    model: str = Field("", description="name of the model, as the endpoint has it")
    seeded: bool | None = Field(
        None,
        description="send a seed with every request; null: with those for text, not with those for images, whose best-known"
        " endpoint refuses one. What repeats an answer is the cache, not the seed",
    )
    parameters: dict[str, Any] = Field(
        {},
        description="further entries of every request, in place of the usual ones; null leaves one out",
    )

    @field_validator("base_url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("it must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("it must hold no key: parameters are recorded with the run")
        return url.rstrip("/")

    def body(self, **asked: Any) -> dict[str, Any]:
        """Return the body of a request: the model, what is asked, and `parameters` over both.

        >>> EndpointOptions(model="m", parameters={"seed": None, "top_p": 0.9}).body(seed=1)
        {'model': 'm', 'top_p': 0.9}
        """
        whole = {"model": self.model, **asked, **self.parameters}
        return {name: value for name, value in whole.items() if value is not None}


class Prices(Options):
    """What the endpoint charges, in any one currency."""

    input_tokens: float = Field(0.0, ge=0, description="a million tokens that are sent")
    output_tokens: float = Field(0.0, ge=0, description="a million tokens that are answered")
    images: float = Field(0.0, ge=0, description="one image")


class TrafficOptions(Options):
    """How an endpoint is asked and what may be spent on it; none of this changes an answer."""

    credentials: str = Field(
        "text_source", min_length=1, description="name of the key in credentials.yml, never the key"
    )
    cache: str = Field(
        "data/02_intermediate/remote",
        min_length=1,
        description="folder of answers, so that nothing is paid for twice",
    )
    workers: int = Field(8, ge=1, le=256, description="requests at the same time")
    timeout_seconds: float = Field(120.0, gt=0, description="of one request")
    retries: int = Field(
        8, ge=0, le=100, description="of a request that failed in a way that may pass"
    )
    backoff_seconds: float = Field(
        1.0, gt=0, description="of the first retry at most; doubled each time, up to a minute"
    )
    longest_wait_seconds: float = Field(
        300.0, gt=0, description="that the endpoint may ask for (Retry-After) before the run stops"
    )
    max_requests: int = Field(
        50_000, ge=1, description="answered requests that the folder `cache` may ever hold or lose"
    )
    max_spend: float | None = Field(
        None,
        gt=0,
        description="that the answers in the folder `cache` may ever cost; null: max_requests alone",
    )
    prices: Prices = Prices()

    @model_validator(mode="after")
    def _priced(self) -> "TrafficOptions":
        if self.max_spend is not None and not any(self.prices.model_dump().values()):
            raise ValueError("max_spend needs prices")
        return self
