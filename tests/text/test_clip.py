"""The shipped CLIP is read as its folder says."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from tckr.errors import UserError
from tckr.images.tensors import to_tensor
from tckr.text.clip import image_embeddings, load_clip, text_embeddings

DATA = Path(__file__).parents[2] / "data"
CLIP = DATA / "06_models/foundation/clip"
SAMPLE = DATA / "01_raw/fashion_mnist/fashion_mnist_sample.parquet"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    table = pd.read_parquet(SAMPLE)
    shoes = table[table.label == "Ankle boot"].head(60)
    return to_tensor(image["bytes"] for image in shoes.image)


def test_embeddings_are_those_of_the_pictures_as_the_processor_reads_them(
    images: torch.Tensor,
) -> None:
    clip = load_clip(CLIP)
    seen = image_embeddings(clip, images[:9], batch_size=4)
    assert seen.dtype == torch.float32
    pictures = [Image.fromarray(image[0].numpy()).convert("RGB") for image in images[:9]]
    with torch.inference_mode():
        body = clip.model.vision_model(**clip.pictures(images=pictures, return_tensors="pt"))
        one_by_one = clip.model.visual_projection(body.pooler_output)
    expected = one_by_one / one_by_one.norm(dim=1, keepdim=True)
    torch.testing.assert_close(seen, expected, atol=1e-3, rtol=0)
    colour = images[:9].expand(-1, 3, -1, -1).contiguous()
    torch.testing.assert_close(image_embeddings(clip, colour), seen, atol=1e-5, rtol=0)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="could not be loaded"):
        load_clip(tmp_path)
    with pytest.raises(UserError, match="holds blip-2"):
        load_clip(CLIP.parent / "captioner")


def test_sentences_are_embedded_each_by_itself_and_cut_where_the_model_ends() -> None:
    clip = load_clip(CLIP)
    sentences = ["a small red shape", "a tall grey boot, split top", "a small red shape " * 40]
    rows = text_embeddings(clip, sentences)
    assert rows.shape == (3, clip.model.config.projection_dim)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    one_by_one = torch.cat([text_embeddings(clip, [sentence]) for sentence in sentences])
    torch.testing.assert_close(rows, one_by_one, atol=1e-5, rtol=0)
    assert text_embeddings(clip, []).shape == (0, rows.shape[1])
    # A picture of a sentence's meaning is nearer to it than another: the two parts share a space.
    colours = {"red": (220, 30, 30), "blue": (30, 30, 220)}
    shapes = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    for picture, colour in zip(shapes, colours.values(), strict=True):
        picture[:, 8:24, 8:24] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    told = text_embeddings(
        clip,
        [
            f"medium square {name} solid shape, straight even outline, on plain white background"
            for name in colours
        ],
    )
    alike = image_embeddings(clip, shapes) @ told.T
    assert alike[0, 0] > alike[0, 1]
    assert alike[1, 1] > alike[1, 0]
