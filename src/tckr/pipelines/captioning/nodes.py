"""The private set in words."""

import pandas as pd

from tckr.pipelines.device import best
from tckr.pipelines.tensors import of_split
from tckr.text.options import CaptionOptions


def caption_members(images: pd.DataFrame, options: CaptionOptions) -> pd.DataFrame:
    """Caption every member and write its prompt; see `tckr.text.captioner`.

    Returns:
        One row a member: image_id, class_name, caption, prompt.
    """
    from tckr.images.tensors import to_tensor
    from tckr.text.captioner import caption, captions_table, load

    members = of_split(images, "members")
    captions = caption(load(options.captioner, best()), to_tensor(members["image"]), options)
    return captions_table(members["image_id"].tolist(), members["class_name"].tolist(), captions)
