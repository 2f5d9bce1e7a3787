"""The private set in words."""

import pandas as pd

from tckr.engine.device import best
from tckr.engine.once_saved import once_saved
from tckr.engine.places import place
from tckr.images.degenerate import check_captions, log
from tckr.images.tables import class_names, of_split
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.tckr import TCKR
from tckr.text.options import CaptionOptions


def caption_members(images: pd.DataFrame, options: CaptionOptions) -> pd.DataFrame:
    """Caption every member and write its prompt; see `TCKR.caption_members`.

    Returns:
        One row per member: image_id, class_name, caption, prompt.

    Raises:
        UserError: all captions are empty.
    """
    import torch

    from tckr.engine.checkpoint import Checkpoints
    from tckr.text.captioner import caption_fingerprint

    members = of_split(images, "members")
    labels = torch.from_numpy(members["label"].to_numpy(copy=True))
    pictures = members["image"].array  # read from their file whenever they are needed
    private = PrivateSet(pictures, labels, class_names(images))
    unfinished = None
    if options.checkpoints:
        folder = place(options.checkpoints) / caption_fingerprint(pictures, options)
        unfinished = Checkpoints(folder)
    synthesizer = TCKR.partly(captioning=options)
    (captions,) = synthesizer.caption_members(private, {}, 0, best(), unfinished=unfinished)
    log(check_captions(captions["caption"].tolist()))
    if unfinished:
        once_saved(unfinished.remove)  # private text
    return captions.assign(image_id=members["image_id"].to_numpy())
