"""Raw images in, the private set out."""

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from tckr.engine.seeds import derive
from tckr.images.options import IngestionOptions
from tckr.images.tables import class_names, of_split


def ingest(path: Path, options: IngestionOptions, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read, check, deduplicate and split the private set; see `tckr.images.ingest`."""
    from tckr.images.ingest import ingest as read_and_split

    return read_and_split(path, options, derive(seed, "ingestion"))


def state_public_facts(images: pd.DataFrame) -> dict[str, Any]:
    """State what arms may know of the members without reading one: their number, the classes, the images' shape."""
    from tckr.images.tensors import to_tensor

    members = of_split(images, "members")
    shape = to_tensor(members["image"].head(1)).shape[1:]
    return {
        "n_members": len(members),
        "class_names": class_names(images),
        "shape": [int(size) for size in shape],
    }


def draw_private_sheet(images: pd.DataFrame) -> Image.Image:
    """Show a few members of every class."""
    from tckr.reporting.style import class_sheet

    return class_sheet({"private": of_split(images, "members")})


def draw_near_duplicates(images: pd.DataFrame, ingestion_report: dict[str, Any]) -> Image.Image:
    """Show pairs of near-duplicates that lie in different splits, side by side."""
    from tckr.reporting.style import notice, pair_sheet

    near = ingestion_report["near_duplicates"]
    if not near["examples"]:
        return notice("No near-duplicates lie in different splits.")
    return pair_sheet(
        images, near["examples"], f"{near['pairs_across_splits']:,} near-duplicates across splits"
    )
