"""A model's card has metadata that the hub reads, figures of the certificate alone, and a way to use it that works."""

import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification

from releases import PATTERN, STATED, released
from tckr.classifiers.hub import HubClassifier
from tckr.classifiers.models import load, save
from tckr.classifiers.names import named
from tckr.diffusion.adapter import Adapter
from tckr.release.model_card import model_cards
from tckr.release.publication import Publication


def snippet(card: str) -> str:
    """Return the only Python of a card."""
    (found,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(found)


def ran(card: str, folder: Path, tmp_path: Path) -> dict[str, object]:
    """Run a card's Python on an image, and return its variables."""
    file = tmp_path / "image.png"
    Image.fromarray(PATTERN[0, 0]).save(file)
    code = snippet(card).replace("path/of/this/folder", str(folder)).replace("image.png", str(file))
    found: dict[str, object] = {}
    exec(compile(code, "card", "exec"), found)
    return found


def test_the_hub_reads_its_metadata(tmp_path: Path) -> None:
    certificate = released(tmp_path)
    data = ModelCard.load(tmp_path / "student/README.md").data

    assert (data.license, data.pipeline_tag, data.library_name) == (
        *("cc-by-4.0", "image-classification"),
        "tckr",
    )
    assert data.datasets == ["clinic/boots"]
    results = {one.metric_name: one for one in data.eval_results}
    assert results["Accuracy"].metric_value == 0.8
    row = certificate.identifiability.rows["weights"]
    attacked = next(one for name, one in results.items() if row.title in name)
    assert attacked.metric_value == pytest.approx(row.primary.auc.value)


def test_it_says_what_the_certificate_says_and_what_is_not_known(tmp_path: Path) -> None:
    certificate = released(tmp_path, Publication())
    card = (tmp_path / "student/README.md").read_text()
    accuracy = certificate.use.accuracy
    assert accuracy is not None

    for words in (
        "license: other",
        "| not stated | not stated | not stated |",
        f"80.0 % ({100 * accuracy.low:.1f} % to {100 * accuracy.high:.1f} %",
        "| bag | 90.0 % |",
        "| boot | not measured |",
        "There is no formal guarantee",
        "of record",
        *certificate.identifiability.not_tried,
    ):
        assert words in card, words


def test_its_python_opens_our_network_and_agrees_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    released(folder)
    found = ran((folder / "student/README.md").read_text(), folder / "student", tmp_path)
    logits = load(folder / "student")(torch.from_numpy(PATTERN).float() / 255)

    assert torch.allclose(found["probabilities"], logits.softmax(1)[0])
    assert capsys.readouterr().out.strip() in ("bag", "boot")


def test_its_python_opens_a_network_of_transformers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = released(tmp_path)
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=2)
    network = ResNetForImageClassification(config).eval()
    model = named(HubClassifier(network, 1, 8, [0.5] * 3, [0.25] * 3), ["bag", "boot"])
    save(model, tmp_path / "student")
    card, _ = model_cards(tmp_path, certificate, STATED)["student/README.md"]
    found = ran(card, tmp_path / "student", tmp_path)

    assert "library_name: transformers" in card
    logits = model(torch.from_numpy(PATTERN).float() / 255)
    assert torch.allclose(found["probabilities"], logits.softmax(1)[0], atol=1e-5)
    assert capsys.readouterr().out.strip() in ("bag", "boot")


def test_an_adapter_and_a_private_teacher_have_cards_of_their_own(tmp_path: Path) -> None:
    certificate = released(tmp_path)
    things = ("student", "adapter", "teacher")
    context = certificate.context.model_copy(update={"things": things})
    certificate = certificate.model_copy(update={"context": context})
    (tmp_path / "adapter").mkdir()
    weights = {f"mid.attn.to_q.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    Adapter(weights).save(tmp_path / "adapter")
    cards = model_cards(tmp_path, certificate, STATED)

    adapter, _ = cards["adapter/README.md"]
    assert "pipeline_tag: text-to-image" in adapter
    assert "load_lora_weights" in snippet(adapter)
    assert "Its own leak was **not measured**." in adapter
    teacher, _ = cards["teacher/README.md"]
    assert "trained on the private images themselves" in teacher
