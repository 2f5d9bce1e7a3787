"""The private set in words."""

from pathlib import Path

import pandas as pd

from tckr.engine.device import best
from tckr.images.tables import of_split
from tckr.text.options import CaptionOptions


def caption_members(images: pd.DataFrame, options: CaptionOptions) -> pd.DataFrame:
    """Caption every member and write its prompt; see `tckr.text.captioner`.

    Returns:
        One row per member: image_id, class_name, caption, prompt.
    """
    from tckr.engine.checkpoint import Checkpoints
    from tckr.text.captioner import caption, caption_fingerprint, captions_table, load

    members = of_split(images, "members")
    captioner = load(options.captioner, best(), options.dtype)
    pictures = members["image"].tolist()
    unfinished = None
    if options.checkpoints:
        folder = Path(options.checkpoints) / caption_fingerprint(pictures, options)
        unfinished = Checkpoints(folder)
    captions = caption(captioner, pictures, options, unfinished)
    if unfinished:
        unfinished.remove()  # private text, which the table is about to hold
    return captions_table(members["image_id"].tolist(), members["class_name"].tolist(), captions)
