"""Renderers: an image a prompt, in order, as large as the private ones, whoever draws."""

import base64
import struct
import zlib
from pathlib import Path

import pytest
import torch

import miniatures
from endpoints import Endpoint, Reply, encoded, picture, traffic
from tckr.diffusion.options import RendererOptions, SamplingOptions
from tckr.diffusion.renderers import PipelineRenderer, RemoteRenderer, fitted, renderer
from tckr.diffusion.sampling import sample
from tckr.engine.released import UnreleasedTextError, release
from tckr.errors import UserError

PROMPTS = [f"Bag: bag number {number}" for number in range(70)]


def remote(server: Endpoint, folder: Path, **changed: object) -> RemoteRenderer:
    settings = {
        "kind": "openai",
        "endpoint": {"base_url": server.base_url, "model": "painter"},
        "traffic": traffic(folder),
        "size": "64x48",
        **changed,
    }
    return RemoteRenderer(RendererOptions.model_validate(settings))


def drawn(one: RemoteRenderer, prompts: list[str], seed: int = 0, start: int = 0) -> torch.Tensor:
    return torch.cat(list(one.render(release(prompts, "public"), (16, 16), 3, seed, start)))


def broken(**changed: object) -> Reply:
    return Reply(body={"data": [changed]})


def huge() -> bytes:
    """A PNG of some hundred bytes that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    lines = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + lines + chunk(b"IEND", b"")


def test_a_pipeline_draws_what_sampling_draws(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = miniatures.save_generator(tmp_path / "generator")
    sampling = SamplingOptions(steps=2, batch_size=4)
    made = renderer(RendererOptions(), str(generator), sampling)
    assert isinstance(made, PipelineRenderer)
    images = torch.cat(list(made.render(PROMPTS[:6], (16, 16), 1, seed=3)))
    again = sample(made._pipeline, PROMPTS[:6], (16, 16), 1, sampling, seed=3)
    assert torch.equal(images, again)
    assert not list(made.render([], (16, 16), 1, seed=3))


def test_an_endpoint_draws_every_prompt_in_order(server: Endpoint, tmp_path: Path) -> None:
    images = drawn(remote(server, tmp_path), PROMPTS)
    assert images.shape == (70, 3, 16, 16)
    for prompt, image in zip(PROMPTS, images, strict=True):
        pixels = torch.frombuffer(bytearray(picture(prompt).tobytes()), dtype=torch.uint8)
        assert torch.equal(image, fitted(pixels.view(48, 64, 3), (16, 16), 3))
    body = server.requests[0]
    assert {**body, "prompt": ""} == {
        "model": "painter", "prompt": "", "n": 1, "size": "64x48", "response_format": "b64_json",
    }  # fmt: skip


def test_drawing_again_is_free_and_repeats_are_other_images(
    server: Endpoint, tmp_path: Path
) -> None:
    one = remote(server, tmp_path)
    twice = [*PROMPTS[:3], *PROMPTS[:3]]
    first = drawn(one, twice)
    assert len(server.requests) == 6
    assert torch.equal(drawn(remote(server, tmp_path), twice), first)
    assert torch.equal(drawn(one, twice, start=4), first[4:])
    assert len(server.requests) == 6
    drawn(one, twice, seed=1)
    assert len(server.requests) == 12


@pytest.mark.parametrize(
    "reply",
    [
        broken(url="http://127.0.0.1:9/picture.png"),
        broken(b64_json="not base64 at all!"),
        broken(b64_json=None),
        broken(b64_json=base64.b64encode(b"no picture").decode()),
        broken(b64_json=encoded(picture("x"))[:120]),
        broken(b64_json=base64.b64encode(huge()).decode()),
        broken(b64_json=encoded(picture("x", (400, 400)))),
        Reply(body={"data": []}),
        Reply(body={"error": "none"}),
    ],
    ids=["address", "no base64", "null", "no picture", "cut", "bomb", "too large", "none", "error"],
)
def test_what_is_no_picture_is_asked_for_again(
    server: Endpoint, tmp_path: Path, reply: Reply
) -> None:
    server.troubles.append(reply)
    images = drawn(remote(server, tmp_path, max_pixels=100_000), PROMPTS[:1])
    assert images.shape == (1, 3, 16, 16)
    assert len(server.requests) == 2


def test_an_endpoint_of_bombs_stops_the_run(server: Endpoint, tmp_path: Path) -> None:
    server.troubles.extend([broken(b64_json=base64.b64encode(huge()).decode())] * 4)
    with pytest.raises(UserError, match="a picture that cannot be read"):
        drawn(remote(server, tmp_path), PROMPTS[:1])


def test_a_declined_prompt_is_grey_and_too_many_stop_the_run(
    server: Endpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = {"error": {"message": "not this", "code": "content_policy_violation"}}
    server.troubles.append(Reply(400, error))
    images = drawn(remote(server, tmp_path), PROMPTS[:20])
    assert sum((image == 128).all().item() for image in images) == 1
    assert "declined to draw 1 of 20" in caplog.text
    server.troubles.extend([Reply(400, error)] * 5)
    with pytest.raises(UserError, match="declined to draw 3 of 20"):
        drawn(remote(server, tmp_path), PROMPTS[20:40])


def test_a_prompt_that_was_never_released_is_not_sent(server: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(UnreleasedTextError):
        list(remote(server, tmp_path).render(["Bag: a private caption"], (16, 16), 3, seed=0))
    assert not server.requests


def test_a_seed_is_sent_only_where_it_is_wanted(server: Endpoint, tmp_path: Path) -> None:
    seeded = {"base_url": server.base_url, "model": "painter", "seeded": True}
    drawn(remote(server, tmp_path, endpoint=seeded), PROMPTS[:2])
    assert len({body["seed"] for body in server.requests}) == 2


@pytest.mark.parametrize("size", [(16, 16), (28, 20), (100, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_middle_of_an_image_is_as_large_as_wanted(size: tuple[int, int], channels: int) -> None:
    image = torch.zeros(90, 60, 3, dtype=torch.uint8)
    image[20:70, 10:50] = 255
    found = fitted(image, size, channels)
    assert found.shape == (channels, *size)
    assert found[:, size[0] // 2, size[1] // 2].min() == 255


def test_grey_is_the_mean_of_the_colours() -> None:
    image = torch.tensor([30, 60, 90], dtype=torch.uint8).expand(8, 8, 3)
    assert fitted(image, (4, 4), 1).unique().tolist() == [60]
