"""Adapters made elsewhere load in ours, ours load in plain diffusers, and what does not fit is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from tckr.diffusion.adapter import FILE, Adapter
from tckr.diffusion.lora import _present
from tckr.diffusion.options import ATTENTION, EVERYTHING, SamplingOptions
from tckr.diffusion.pipeline import load
from tckr.diffusion.sampling import sample
from tckr.diffusion.update import DenoiserUpdate, joined
from tckr.errors import UserError

FolderOf = Callable[[str], Path]
Weights = dict[str, Tensor]
RANK = 3


def factors(pipeline: Any, layers: tuple[str, ...] = ATTENTION) -> Weights:
    """Random factors of every wanted layer, in our naming."""
    draw = torch.Generator().manual_seed(0)
    found = {}
    for name in _present(pipeline.unet, layers):
        out, *into = pipeline.unet.get_submodule(name).weight.shape
        kernel = into[1:]
        first = torch.randn(RANK, *into, generator=draw)
        second = torch.randn(out, RANK, *(1 for _ in kernel), generator=draw)
        found |= {f"{name}.lora_A.weight": 0.2 * first, f"{name}.lora_B.weight": 0.2 * second}
    return found


def as_diffusers(weights: Weights) -> Weights:
    return {f"unet.{name}": tensor for name, tensor in weights.items()}


def as_diffusers_before(weights: Weights) -> Weights:
    """The naming of `lora.down` and `lora.up`."""
    return {
        f"unet.{name}".replace("lora_A", "lora.down").replace("lora_B", "lora.up"): tensor
        for name, tensor in weights.items()
    }


def as_processors(weights: Weights) -> Weights:
    """`...attn1.processor.to_q_lora.down.weight`."""
    renamed = {}
    for name, tensor in weights.items():
        layer, factor = name.rsplit(".lora_", 1)
        attention, projection = layer.removesuffix(".0").rsplit(".", 1)
        which = "down" if factor.startswith("A") else "up"
        renamed[f"unet.{attention}.processor.{projection}_lora.{which}.weight"] = tensor
    return renamed


def as_peft(weights: Weights) -> Weights:
    return {f"base_model.model.{name}": tensor for name, tensor in weights.items()}


def as_kohya(weights: Weights, alpha: float = RANK) -> Weights:
    renamed = {}
    for name, tensor in weights.items():
        layer, factor = name.rsplit(".lora_", 1)
        flat = "lora_unet_" + layer.replace(".", "_")
        renamed[f"{flat}.lora_{'down' if factor.startswith('A') else 'up'}.weight"] = tensor
        renamed[f"{flat}.alpha"] = torch.tensor(float(alpha))
    return renamed


def as_kohya_xl(weights: Weights) -> Weights:
    """Kohya's names of SDXL, which count the blocks as the original code does."""
    patterns = (
        (r"lora_unet_down_blocks_(\d)_attentions_(\d)", "input_blocks_{}_1", 1),
        (r"lora_unet_up_blocks_(\d)_attentions_(\d)", "output_blocks_{}_1", 0),
    )
    renamed = {}
    for name, tensor in as_kohya(weights).items():
        new = name.replace("mid_block_attentions_0", "middle_block_1")
        for pattern, form, first in patterns:
            if found := re.match(pattern, new):
                number = first + 3 * int(found[1]) + int(found[2])
                new = "lora_unet_" + form.format(number) + new[found.end() :]
        renamed[new] = tensor
    return renamed


def draw(pipeline: Any) -> Tensor:
    options = SamplingOptions(steps=2, guidance_scale=1)
    return sample(pipeline, ["tall", "wide"], (16, 16), 3, options, seed=0)


@pytest.mark.parametrize(
    ("family", "naming"),
    [
        *(
            (family, naming)
            for family in ("sd1", "xl")
            for naming in (as_diffusers, as_diffusers_before, as_processors, as_peft, as_kohya)
        ),
        ("xl", as_kohya_xl),
    ],
)
def test_every_format_loads_and_gives_the_same_images(
    naming: Callable[[Weights], Weights], family: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = str(folder_of(family))
    weights = factors(load(folder))
    save_file(naming(weights), tmp_path / "foreign.safetensors")

    adapter = Adapter.load(tmp_path / "foreign.safetensors")

    assert adapter.weights.keys() == weights.keys()
    assert all(torch.equal(adapter.weights[name], weights[name]) for name in weights)
    ours = draw(adapter.apply(load(folder)))
    assert torch.equal(ours, draw(Adapter(weights).apply(load(folder))))
    assert (ours.int() - draw(load(folder)).int()).abs().max() > 3


@pytest.mark.parametrize("naming", [as_diffusers, as_diffusers_before, as_processors, as_kohya])
def test_diffusers_itself_draws_the_same(
    naming: Callable[[Weights], Weights], folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = str(folder_of("sd2"))
    save_file(naming(factors(load(folder))), tmp_path / FILE)
    theirs = load(folder)
    theirs.load_lora_weights(tmp_path, weight_name=FILE)
    ours = Adapter.load(tmp_path).apply(load(folder))
    assert (draw(ours).int() - draw(theirs).int()).abs().max() <= 1


@pytest.mark.parametrize("naming", [as_diffusers, as_peft, as_kohya])
def test_every_layer_has_its_name(
    naming: Callable[[Weights], Weights], folder_of: FolderOf, tmp_path: Path
) -> None:
    pipeline = load(str(folder_of("sd1")))
    weights = factors(pipeline, EVERYTHING)
    save_file(naming(weights), tmp_path / "foreign.safetensors")
    adapter = Adapter.load(tmp_path / "foreign.safetensors")
    adapter.check(pipeline.unet)
    assert adapter.weights.keys() == weights.keys()


@pytest.mark.parametrize("full", [False, True])
def test_joined_updates_are_what_one_after_another_makes(
    full: bool, folder_of: FolderOf, tmp_path: Path
) -> None:
    base, apart = (load(str(folder_of("sd1"))) for _ in range(2))
    first = Adapter(factors(base, EVERYTHING))
    weights = {n: -0.5 * each.flip(0) for n, each in factors(base, ATTENTION).items()}
    second: Adapter | DenoiserUpdate = Adapter(weights)
    if full:
        moved = {n: 0.01 * torch.randn_like(each) for n, each in base.unet.named_parameters()}
        second = DenoiserUpdate(moved)
    one = joined([first, second])
    assert isinstance(one, DenoiserUpdate if full else Adapter)
    one.save(tmp_path)
    one = DenoiserUpdate.load(tmp_path) if full else Adapter.load(tmp_path)
    one.apply(base)
    second.apply(first.apply(apart))
    for ours, theirs in zip(base.unet.parameters(), apart.unet.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert joined([first]) is first


def test_a_round_trip_through_diffusers_is_exact(folder_of: FolderOf, tmp_path: Path) -> None:
    from peft.utils import get_peft_model_state_dict

    pipeline = load(str(folder_of("sd2")))
    mine = Adapter(factors(pipeline, EVERYTHING))
    mine.save(tmp_path / "ours")
    pipeline.load_lora_weights(tmp_path / "ours", adapter_name="theirs")
    layers = get_peft_model_state_dict(pipeline.unet, adapter_name="theirs")
    type(pipeline).save_lora_weights(tmp_path / "theirs", unet_lora_layers=layers)
    again = Adapter.load(tmp_path / "theirs")
    assert again.weights.keys() == mine.weights.keys()
    assert all(torch.equal(again.weights[name], mine.weights[name]) for name in mine.weights)


def test_a_folder_of_peft_keeps_its_alpha(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = str(folder_of("sd2"))
    pipeline = load(folder)
    config = LoraConfig(r=4, lora_alpha=10, target_modules=_present(pipeline.unet, ATTENTION))
    model = get_peft_model(pipeline.unet, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
    model.save_pretrained(tmp_path)
    merged = load(folder)
    merged.unet = model.merge_and_unload()
    ours = Adapter.load(tmp_path).apply(load(folder))
    for mine, theirs in zip(ours.unet.parameters(), merged.unet.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_alpha_scales_the_update(folder_of: FolderOf, tmp_path: Path) -> None:
    weights = factors(load(str(folder_of("sd2"))))
    save_file(as_kohya(weights, alpha=1.5), tmp_path / "kohya.safetensors")
    header = {
        "lora_adapter_metadata": json.dumps(
            {"unet.r": RANK, "unet.lora_alpha": 1.5, "unet.alpha_pattern": {}}
        )
    }
    save_file(as_diffusers(weights), tmp_path / "diffusers.safetensors", metadata=header)
    for file in ("kohya", "diffusers"):
        loaded = Adapter.load(tmp_path / f"{file}.safetensors").weights
        for name, tensor in weights.items():
            wanted = tensor * 0.5 if "lora_B" in name else tensor
            torch.testing.assert_close(loaded[name], wanted)


def test_what_does_not_fit_is_named_and_changes_nothing(
    folder_of: FolderOf, tmp_path: Path
) -> None:
    sd2, xl = (load(str(folder_of(family))) for family in ("sd2", "xl"))
    before = {name: tensor.clone() for name, tensor in sd2.unet.state_dict().items()}
    foreign = Adapter(factors(xl))
    with pytest.raises(UserError, match=r"attn2\.to_k have shapes \(3, 48\) .* fit .* \(32, 32\)"):
        foreign.apply(sd2)
    after = sd2.unet.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    elsewhere = {f"nowhere.lora_{factor}.weight": torch.ones(2, 2) for factor in "AB"}
    with pytest.raises(UserError, match="changes nowhere"):
        Adapter(elsewhere).apply(sd2)


PAIR = ("unet.a.to_q.lora_A.weight", "unet.a.to_q.lora_B.weight")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("unet.a.to_q.lora_A.weight",), "one factor only"),
        (("text_encoder.a.lora_A.weight",), "text encoder"),
        (("lora_te1_a.lora_down.weight",), "text encoder"),
        (("unet.conv_in.weight",), "not a factor"),
        (("lora_unet_a.lora_down.weight",), "one factor only"),
        (("unet.a.to_q.lora_B.weight",), "one factor only"),
        ((*PAIR, "unet.a.to_q.lora_magnitude_vector.weight"), "DoRA"),
        ((*PAIR, "unet.a.to_q.dora_scale"), "DoRA"),
        ((*PAIR, "unet.a.to_k.alpha"), "scales a layer that has no factors"),
        ((*PAIR, "unet.a.to_q.alpha"), "not a factor"),  # no single number
        ((*PAIR, "unet.a.to_q.lora_mid.weight"), "not a factor"),
        ((*PAIR, "unet.a.norm.diff_b"), "not a factor"),
        ((*PAIR, "unet.a.to_q.lora_A.other.weight"), "twice, of two adapters"),
        ((*PAIR, *(name.removeprefix("unet.") for name in PAIR)), "twice"),
        (tuple(f"unet.a.{n}" for n in ("hada_w1_a", "hada_w1_b")), "not a factor"),
        (("lora_unet_a.lora_down.weight", "b.lora_up.weight"), "one factor only"),
        ((), "changes no layer"),
    ],
)
def test_other_files_are_refused(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    weights = {n: torch.ones(1) if n.endswith("k.alpha") else torch.ones(2, 2) for n in names}
    save_file(weights, tmp_path / "some.safetensors")
    with pytest.raises(UserError, match=message):
        Adapter.load(tmp_path / "some.safetensors")


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        Adapter.load(tmp_path)


def test_the_published_adapter_has_its_size() -> None:
    """TCKR's released file for Stable Diffusion 2 has rank 4 and 829,952 numbers."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=96,
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
    rank, layers = 4, _present(unet, ATTENTION)
    adapter = Adapter(
        {
            f"{name}.lora_{factor}.weight": torch.empty(shape, device="meta")
            for name in layers
            for factor, shape in (
                ("A", (rank, unet.get_submodule(name).in_features)),
                ("B", (unet.get_submodule(name).out_features, rank)),
            )
        }
    )
    adapter.check(unet)
    assert sum(tensor.numel() for tensor in adapter.weights.values()) == 829_952
    assert sum(parameter.numel() for parameter in unet.parameters()) == 865_910_724


def test_our_file_is_in_diffusers_current_naming(folder_of: FolderOf, tmp_path: Path) -> None:
    weights = factors(load(str(folder_of("sd2"))))
    Adapter(weights).save(tmp_path)
    assert load_file(tmp_path / FILE).keys() == as_diffusers(weights).keys()


def as_mixed(weights: Weights, alpha: float = RANK) -> Weights:
    """Kohya's prefix with PEFT's factors, as some trainers write."""
    return {
        name.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): tensor
        for name, tensor in as_kohya(weights, alpha).items()
    }


def with_alphas(suffix: str) -> Callable[[Weights], Weights]:
    """PEFT's factors with an alpha for every layer, named so."""

    def made(weights: Weights) -> Weights:
        layers = {name.rsplit(".lora_", 1)[0] for name in weights}
        alphas = {f"unet.{layer}{suffix}": torch.tensor([1.0]) for layer in layers}
        return as_diffusers(weights) | alphas

    return made


@pytest.mark.parametrize(
    "naming",
    [
        lambda weights: as_kohya(weights, 1.0),
        lambda weights: as_mixed(weights, 1.0),
        with_alphas(".alpha"),
        with_alphas(".lora.alpha"),
        with_alphas(".lora_alpha"),
    ],
)
def test_an_alpha_is_honoured_in_every_naming(
    naming: Callable[[Weights], Weights], folder_of: FolderOf, tmp_path: Path
) -> None:
    weights = factors(load(str(folder_of("sd2"))))
    save_file(naming(weights), tmp_path / "scaled.safetensors")

    loaded = Adapter.load(tmp_path / "scaled.safetensors").weights

    assert loaded.keys() == weights.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(loaded[name], tensor / RANK if "lora_B" in name else tensor)


@pytest.mark.parametrize(
    ("factor", "value", "message"),
    [
        ("lora_up", float("nan"), "not finite"),
        ("lora_down", float("inf"), "not finite"),
        ("alpha", float("nan"), "not finite"),
        ("alpha", 0.0, "is 0, which leaves no update"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(
    factor: str, value: float, message: str, folder_of: FolderOf, tmp_path: Path
) -> None:
    weights = as_kohya(factors(load(str(folder_of("sd2")))))
    name = next(name for name in weights if factor in name)
    weights[name] = weights[name].clone()
    weights[name].view(-1)[0] = value
    save_file(weights, tmp_path / "overflowed.safetensors")
    with pytest.raises(UserError, match=f"{factor}.*{message}") as caught:
        Adapter.load(tmp_path / "overflowed.safetensors")
    assert "\n" not in str(caught.value)


def test_factors_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    for shapes in (((2, 8), (8, 3)), ((2, 8), (8,)), ((2, 8, 1, 1), (8, 2, 3, 3))):
        weights = {name: torch.ones(shape) for name, shape in zip(PAIR, shapes, strict=True)}
        save_file(weights, tmp_path / "odd.safetensors")
        with pytest.raises(UserError, match="do not fit each other"):
            Adapter.load(tmp_path / "odd.safetensors")


def write_peft(folder: Path, name: str = "adapter_model.safetensors", **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    weights = {f"base_model.model.{n.removeprefix('unet.')}": torch.ones(4, 4) for n in PAIR}
    save_file(weights, folder / name)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_the_configuration_beside_the_only_weights_is_theirs(tmp_path: Path) -> None:
    scaled = {"peft_type": "LORA", "r": 4, "lora_alpha": 1, "init_lora_weights": True}
    folder = write_peft(tmp_path / "a", "my_lora.safetensors", **scaled)
    for source in (folder, folder / "my_lora.safetensors"):
        loaded = Adapter.load(source).weights
        assert (loaded["a.to_q.lora_B.weight"] == 0.25).all()
    save_file({"x": torch.ones(1)}, folder / "another.safetensors")
    with pytest.raises(UserError, match=r"2 files of weights: another.*my_lora"):
        Adapter.load(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"use_dora": True},
        {"peft_type": "LOHA"},
        {"init_lora_weights": "pissa"},
        {"bias": "all"},
        {"modules_to_save": ["conv_in"]},
    ],
)
def test_a_configuration_of_more_than_lora_is_refused(
    config: dict[str, Any], tmp_path: Path
) -> None:
    write_peft(tmp_path / "a", **{"peft_type": "LORA", "lora_alpha": 4, **config})
    with pytest.raises(UserError, match=f"{next(iter(config))} = .*adapter_config.json"):
        Adapter.load(tmp_path / "a")


def test_two_alphas_that_disagree_are_refused(tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "a", peft_type="LORA", lora_alpha=4)
    with_alpha = load_file(folder / "adapter_model.safetensors")
    with_alpha["base_model.model.a.to_q.alpha"] = torch.tensor(1.0)
    save_file(with_alpha, folder / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"says scale 0\.25, but its configuration 1"):
        Adapter.load(folder)


def test_an_update_that_half_precision_loses_is_warned_of(
    folder_of: FolderOf, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = load(str(folder_of("sd2")))
    weights = factors(pipeline)
    pipeline.unet.to(torch.bfloat16)
    Adapter(weights).apply(pipeline)
    assert "is lost" not in caplog.text

    tiny = {n: 1e-4 * w if "lora_B" in n else w for n, w in weights.items()}
    Adapter(tiny).apply(pipeline)
    assert re.search(r"\d+ % of the adapter's update is too small for .* bfloat16", caplog.text)
