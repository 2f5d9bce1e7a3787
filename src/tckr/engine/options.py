"""Typed parameters of where shards of long work run; none of them changes a result."""

from typing import Literal

from pydantic import Field

from tckr.options import Options


class EngineOptions(Options):
    """Where the shards of long stages run."""

    kind: Literal["local", "ray"] = Field(
        "local", description="processes of this machine, or workers of a Ray cluster (tckr[ray])"
    )
    address: str = Field(
        "auto",
        description="of the Ray cluster, host:port; auto: the one that this machine is a node of; local: one is started"
        " for the run, on this machine and its loopback address alone",
    )
    gpus_per_worker: float | None = Field(
        None,
        ge=0,
        description="GPUs of one Ray worker, a share below 1 for several workers a GPU; null: 1 where this process"
        " computes on a GPU, otherwise 0",
    )
    cpus_per_worker: float = Field(
        1, gt=0, description="cores that one Ray worker occupies; it computes on one thread"
    )
    max_retries: int = Field(
        3,
        ge=0,
        le=100,
        description="how often Ray tries a shard again, elsewhere if it can, after its worker died or it failed",
    )
    shard_pixels: int = Field(
        1 << 28,
        ge=1,
        description="pixels of the images of one shard of soft labels or latents, whole batches; workers are started for"
        " two such shards or more",
    )
    storage: str | None = Field(
        None,
        description="folder or fsspec URL (s3://...) that every node reads and writes: what workers need, and the results"
        " of their shards; null: the run's folder of temporary files",
    )

    def describe(self) -> str:
        """Say in a few words where shards run."""
        if self.kind == "local":
            return "on this machine"
        return f"on the Ray cluster {self.address}"
