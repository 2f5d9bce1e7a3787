"""The shipped CLIP as features: its parts' configuration states another projection size than the whole has."""

from pathlib import Path

import torch

from tckr.classifiers.features import LinearOnFeatures, load_clip_features
from tckr.text.clip import image_embeddings, load_clip

CLIP = Path(__file__).parents[2] / "data/06_models/foundation/clip"


def test_the_image_part_of_a_whole_clip_embeds_as_the_whole_does() -> None:
    body = load_clip_features(CLIP).eval()
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, body.side, body.side), generator=draw).to(torch.uint8)
    with torch.inference_mode():
        seen = body.vision(pixel_values=(images / 255 - body.mean) / body.std).image_embeds
    whole = image_embeddings(load_clip(CLIP), images)
    torch.testing.assert_close(torch.nn.functional.normalize(seen), whole, atol=1e-5, rtol=0)
    assert body.size == whole.shape[1]
    rebuilt = LinearOnFeatures.from_config(**LinearOnFeatures(body, 3).config)
    assert rebuilt.head.in_features == body.size + 1
