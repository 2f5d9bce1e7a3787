"""Base of every typed parameter group."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Frozen parameters of one stage; an unknown key or a value out of range is refused.

    Kedro validates `params:<stage>` against a subclass of this before any node runs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
