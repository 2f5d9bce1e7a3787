"""The private set in words."""

from pathlib import Path

import pandas as pd

from tckr.engine.device import best
from tckr.images.tables import of_split
from tckr.text.options import CaptionOptions


def caption_members(images: pd.DataFrame, options: CaptionOptions) -> pd.DataFrame:
    """Caption every member and write its prompt; see `tckr.text.captioner`.

    Returns:
        One row a member: image_id, class_name, caption, prompt.
    """
    from tckr.engine.checkpoint import Checkpoints
    from tckr.text.captioner import caption, captions_table, load

    members = of_split(images, "members")
    captioner = load(options.captioner, best(), options.dtype)
    unfinished = Checkpoints(Path(options.checkpoints)) if options.checkpoints else None
    captions = caption(captioner, members["image"].tolist(), options, unfinished)
    if unfinished:
        unfinished.remove()  # private text; all that is left to do is to save the table
    return captions_table(members["image_id"].tolist(), members["class_name"].tolist(), captions)
