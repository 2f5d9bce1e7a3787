"""Every kind of captioner, and every way in, gives what the plain loop of processor and generate gives."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import captioners
from tckr.engine.checkpoint import Checkpoints
from tckr.errors import UserError
from tckr.images.tensors import to_png
from tckr.text.captioner import Captioner, caption, caption_fingerprint, load, tidy
from tckr.text.decoding import Writer
from tckr.text.options import CaptionOptions
from tckr.text.preprocessing import recipe

IMAGES = torch.randint(
    0, 256, (7, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
)
OPTIONS = CaptionOptions(captioner="x", max_new_tokens=5, batch_size=3)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Captioner]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("captioners")
    return {name: load(str(save(folder / name))) for name, save in captioners.KINDS.items()}


@torch.inference_mode()
def one_by_one(captioner: Captioner, images: torch.Tensor) -> list[str]:
    """The published way: no prompt, an image at a time."""
    texts = []
    for image in images:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        inputs = captioner.processor(images=picture, return_tensors="pt")
        tokens = captioner.model.generate(**inputs, max_new_tokens=5)
        texts += captioner.processor.batch_decode(tokens, skip_special_tokens=True)
    return [tidy(text) for text in texts]


@pytest.mark.parametrize("name", ["blip-2 with OPT", "blip-2 with T5", "blip", "git"])
def test_captions_are_those_of_the_published_loop(name: str, loaded: dict[str, Captioner]) -> None:
    expected = one_by_one(loaded[name], IMAGES)
    assert caption(loaded[name], IMAGES, OPTIONS) == expected
    assert caption(loaded[name], to_png(IMAGES), OPTIONS) == expected


@pytest.mark.parametrize("name", captioners.KINDS)
def test_a_prompt_is_answered_and_not_repeated(name: str, loaded: dict[str, Captioner]) -> None:
    prompted = OPTIONS.model_copy(update={"prompt": "a small red round"})
    texts = caption(loaded[name], IMAGES, prompted)
    assert texts == caption(loaded[name], IMAGES, prompted.model_copy(update={"batch_size": 7}))
    assert not any("a small red round" in text for text in texts)
    if name != "llava":
        assert texts != caption(loaded[name], IMAGES, OPTIONS)


def test_a_chat_model_without_a_prompt_is_refused(loaded: dict[str, Captioner]) -> None:
    with pytest.raises(UserError, match=r"llava needs a prompt.*captioning\.prompt"):
        caption(loaded["llava"], IMAGES, OPTIONS)


@pytest.mark.parametrize("shape", [(16, 16), (61, 47), (7, 90), (224, 300)])
def test_pixels_prepared_in_batches_are_the_processors_own(
    shape: tuple[int, int], loaded: dict[str, Captioner]
) -> None:
    processor = loaded["blip"].processor.image_processor
    pixels = recipe(processor)
    assert pixels is not None
    images = torch.randint(0, 256, (4, 3, *shape), dtype=torch.uint8)
    images[0, :, ::2], images[1, :, :, ::2] = 0, 255  # the sharpest edges
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    expected = processor(images=pictures, return_tensors="pt").pixel_values
    level = 1 / 255 / min(pixels.std)
    assert (pixels(images) - expected).abs().max() <= 1.01 * level
    assert (pixels(images) - expected).abs().mean() < 0.02 * level


def test_a_processor_that_does_more_is_left_to_itself(loaded: dict[str, Captioner]) -> None:
    for name, on_device in {"blip": True, "blip-2 with OPT": True, "git": False}.items():
        captioner = loaded[name]
        batch = Writer(captioner.model, captioner.processor, OPTIONS).prepare(IMAGES)
        assert (batch.features is None) == on_device


def test_equal_images_are_captioned_once(
    loaded: dict[str, Captioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = loaded["blip"]
    seen = count(captioner, monkeypatch)
    order = [0, 1, 0, 2, 2, 1, 0, 3]
    texts = caption(captioner, [to_png(IMAGES)[i] for i in order], OPTIONS)
    assert sum(seen) == 4
    assert texts == [caption(captioner, IMAGES[:4], OPTIONS)[i] for i in order]


def test_what_does_not_fit_is_halved(
    loaded: dict[str, Captioner], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = loaded["blip"]
    whole = OPTIONS.model_copy(update={"batch_size": 7})
    expected = caption(captioner, IMAGES, whole)
    seen = count(captioner, monkeypatch, fits=2)
    assert caption(captioner, IMAGES, whole) == expected
    assert seen == [7, 4, 2, 2, 2, 1]
    count(captioner, monkeypatch, fits=0)
    with pytest.raises(UserError, match="does not fit"):
        caption(captioner, IMAGES, whole)


def test_captioning_goes_on_where_it_was_cut_short(
    loaded: dict[str, Captioner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = loaded["blip"]
    options = OPTIONS.model_copy(update={"shard": 2, "batch_size": 2})
    expected = caption(captioner, IMAGES, options)
    checkpoints = Checkpoints(tmp_path / "shards")
    encoded = to_png(IMAGES)
    with pytest.raises(OSError, match="cannot identify"):
        caption(captioner, [*encoded[:5], b"damaged", encoded[6]], options, checkpoints)
    assert len(list(checkpoints.folder.iterdir())) >= 1
    seen = count(captioner, monkeypatch)
    assert caption(captioner, encoded, options, checkpoints) == expected
    assert sum(seen) < 7
    with pytest.raises(UserError, match="prompt differ"):
        caption(captioner, encoded, options.model_copy(update={"prompt": "a"}), checkpoints)


def test_captioning_resumes_with_smaller_batches(
    loaded: dict[str, Captioner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = loaded["blip"]
    options = OPTIONS.model_copy(update={"shard": 4, "batch_size": 4})
    halved, odd = (options.model_copy(update={"batch_size": size}) for size in (2, 3))
    expected = caption(captioner, IMAGES, options)
    checkpoints = Checkpoints(tmp_path / caption_fingerprint(IMAGES, options))
    caption(captioner, IMAGES[:4], options, checkpoints)
    seen = count(captioner, monkeypatch)
    assert caption(captioner, IMAGES, halved, checkpoints) == expected
    assert seen == [2, 1]
    assert (
        caption(captioner, IMAGES, odd, checkpoints) == expected
    )  # its shards are of other images


def test_a_fingerprint_covers_images_and_what_changes_captions() -> None:
    work = caption_fingerprint(IMAGES, OPTIONS)
    assert work == caption_fingerprint(IMAGES.clone(), OPTIONS)
    faster = {"batch_size": 1, "checkpoints": "here"}
    assert work == caption_fingerprint(IMAGES, OPTIONS.model_copy(update=faster))
    assert work != caption_fingerprint(IMAGES.flip(0), OPTIONS)
    changes = {"captioner": "y", "prompt": "a", "max_new_tokens": 6, "dtype": "float32", "shard": 2}
    for name, value in changes.items():
        assert work != caption_fingerprint(IMAGES, OPTIONS.model_copy(update={name: value})), name


def count(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch, fits: int | None = None
) -> list[int]:
    """Sizes of the batches that the model is given; more than `fits` images run out of memory."""
    seen: list[int] = []
    generate = type(captioner.model).generate.__get__(captioner.model)

    def counted(pixel_values: torch.Tensor, **rest: object) -> torch.Tensor:
        seen.append(len(pixel_values))
        if fits is not None and len(pixel_values) > fits:
            raise torch.OutOfMemoryError("no room")
        return generate(pixel_values=pixel_values, **rest)

    monkeypatch.setattr(captioner.model, "generate", counted)
    return seen
