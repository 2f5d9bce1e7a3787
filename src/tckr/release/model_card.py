"""The card of every model that goes: metadata that the Hugging Face hub reads, then what it is in plain words.

All figures are the certificate's. The card is `README.md` in the model's folder, beside the files that were attacked.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tckr.audit.proven import Guarantee
from tckr.classifiers.names import ID2LABEL
from tckr.images.names import markdown
from tckr.release.certificate import Certificate
from tckr.release.policy import ATTACKED, Kind
from tckr.release.publication import NOT_STATED, Publication
from tckr.release.rows import Attack, Row

CARD = "README.md"
MODELS: tuple[Kind, ...] = ("student", "teacher", "adapter")
TITLES = {"student": "Student", "teacher": "Private teacher", "adapter": "Adapter of the generator"}
MADE_OF = {
    "student": "It was trained on synthetic images alone, under the labels of a teacher, and never read a private image; what it"
    " knows of them came through those images and labels.",
    "teacher": "It was trained on the private images themselves, under differential privacy.",
    "adapter": "It changes a public text-to-image generator so that it draws images like the private ones, on which it was"
    " trained.",
}
LORA = "pytorch_lora_weights.safetensors"
OURS = """\
It is saved as `config.json` and `model.safetensors`, and opens with tckr {version} (no class of transformers):

```python
import numpy as np
import torch
from PIL import Image
from tckr.classifiers.models import load

model = load("path/of/this/folder")
image = Image.open("image.png").convert("{mode}")
pixels = torch.from_numpy(np.array(image)).float() / 255  # (H, W{colour}), in [0, 1]
probabilities = model({batch}).softmax(1)[0]
print({name})
```
"""
TRANSFORMERS = """\
It opens with transformers. Images are squares of {side} pixels, their channels normalised as below (`load` of
`tckr.classifiers.models` opens it too, and prepares images of any size itself, as they were when it was attacked):

```python
import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("path/of/this/folder")
image = Image.open("image.png").convert("{mode}").convert("RGB").resize(({side}, {side}), Image.Resampling.BICUBIC)
pixels = torch.from_numpy(np.array(image)).float() / 255
pixels = (pixels - torch.tensor({mean})) / torch.tensor({std})
probabilities = model(pixels.permute(2, 0, 1)[None]).logits.softmax(1)[0]
print(model.config.id2label[int(probabilities.argmax())])
```
"""
DIFFUSERS = """\
It holds LoRA weights of diffusers' naming:

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("the generator that it was made for")
pipeline.load_lora_weights("path/of/this/folder")
```
"""


def model_cards(
    folder: Path, certificate: Certificate, publication: Publication
) -> dict[str, tuple[str, str]]:
    """Return the card of every model that goes, and what it is, by its path.

    Args:
        folder: of the release; the models are there.
        certificate: of the release.
        publication: who hands it out.
    """
    return {
        f"{thing}/{CARD}": (
            _card(folder / thing, thing, certificate, publication),
            f"card of the {TITLES[thing].lower()}, with metadata for the Hugging Face hub",
        )
        for thing in MODELS
        if thing in certificate.context.things
    }


def percent(share: float | None) -> str:
    """Return a share in percent.

    >>> percent(0.5), percent(None)
    ('50.0 %', 'not measured')
    """
    return "not measured" if share is None else f"{100 * share:.1f} %"


def guaranteed(proven: Guarantee | None) -> str:
    """Return what is proven, as a sentence."""
    if proven is None:
        return "There is no formal guarantee (differential privacy): what follows was measured, not proven."
    return (
        f"It is under differential privacy: epsilon {proven.epsilon:.4g} at delta {proven.delta:.2g} ({proven.adjacency}),"
        f" together with everything else of this release. No attack on one image can have an AUC above {percent(proven.auc)}."
    )


def _card(folder: Path, thing: Kind, certificate: Certificate, publication: Publication) -> str:
    header = yaml.safe_dump(
        _metadata(folder, thing, certificate, publication),
        sort_keys=False,
        allow_unicode=True,
        width=10_000,
    )
    title = publication.title or "Release of tckr"
    parts = [
        f"---\n{header}---",
        f"# {markdown(title)}: {TITLES[thing].lower()}",
        "| handed out by | licence | intended use |\n| --- | --- | --- |\n"
        f"| {markdown(publication.creator or NOT_STATED)} | {publication.licence or NOT_STATED}"
        f" | {markdown(publication.intended_use or NOT_STATED)} |",
        "## What it is",
        _what(thing, certificate),
        *_accuracy(thing, certificate),
        "## What it cannot do",
        "\n".join(f"- {text}" for text in _cannot(thing, certificate)),
        "## What was attacked",
        guaranteed(certificate.proven),
        *_attacks(thing, certificate),
        "Nobody tried: " + "; ".join(certificate.identifiability.not_tried) + ".",
        "`certificate.json` and `certificate.html` of the release have all of this for everything that goes.",
        "## Use",
        _use(folder, thing, certificate),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _metadata(
    folder: Path, thing: Kind, certificate: Certificate, publication: Publication
) -> dict[str, Any]:
    """Return the YAML header, in the words of huggingface_hub's ModelCardData."""
    from huggingface_hub import EvalResult, ModelCardData

    draws = thing == "adapter"
    data = ModelCardData(
        license=publication.hub_licence,
        license_name=None if publication.licence else NOT_STATED.replace(" ", "-"),
        pipeline_tag="text-to-image" if draws else "image-classification",
        library_name=_library(folder, thing),
        datasets=[publication.set_id] if publication.set_id and thing == "student" else None,
        tags=[
            *(["lora"] if draws and (folder / LORA).is_file() else []),
            *(["synthetic-data", "knowledge-distillation"] if thing == "student" else []),
            *(["differential-privacy"] if certificate.proven else []),
            "privacy",
        ],
        metrics=None if draws else ["accuracy"],
    ).to_dict()
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="private",
            dataset_name="private test images",
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in _results(thing, certificate)
    ]
    if results and not draws:
        model = ModelCardData(eval_results=results, model_name=TITLES[thing])
        data["model-index"] = model.to_dict()["model-index"]
    return data


def _results(thing: Kind, certificate: Certificate) -> Iterator[tuple[str, str, float]]:
    accuracy = _accuracy_of(thing, certificate)
    if accuracy is not None:
        yield "accuracy", "Accuracy", round(accuracy, 6)
    for row in _rows(thing, certificate):
        name = f"AUC of membership inference ({row.primary.label}): {row.title}"
        yield "roc_auc", name, round(row.primary.auc.value, 6)


def _accuracy_of(thing: Kind, certificate: Certificate) -> float | None:
    """Return the accuracy of a model as a share."""
    if thing == "student":
        return None if certificate.use.accuracy is None else certificate.use.accuracy.value
    row = next(iter(_rows(thing, certificate)), None)
    return None if row is None or row.accuracy is None else row.accuracy / 100


def _rows(thing: Kind, certificate: Certificate) -> list[Row]:
    rows = certificate.identifiability.rows
    return [rows[name] for name in ATTACKED[thing] if name in rows]


def _what(thing: Kind, certificate: Certificate) -> str:
    names = [markdown(name) for name in certificate.data.classes]
    kind = (
        f"A network that tells {len(names)} classes of images apart: {', '.join(names)}."
        if thing != "adapter"
        else f"Weights for images of {len(names)} classes: {', '.join(names)}."
    )
    return f"{kind} {MADE_OF[thing]} Behind it are {certificate.data.members:,} private images."


def _accuracy(thing: Kind, certificate: Certificate) -> list[str]:
    use, share = certificate.use, _accuracy_of(thing, certificate)
    if thing == "adapter":
        return []
    said = f"Accuracy on {use.n_test:,} private test images, which no training and no choice read: {percent(share)}"
    if thing == "student" and use.accuracy is not None:
        low, high = percent(use.accuracy.low), percent(use.accuracy.high)
        said += f" ({low} to {high} with {percent(use.accuracy.confidence)} confidence)"
    rows = [
        f"| {markdown(name)} | {percent(None if found is None else found / 100)} |"
        for name, found in (use.per_class if thing == "student" else {}).items()
    ]
    table = ["| class | accuracy |\n| --- | ---: |\n" + "\n".join(rows)] if rows else []
    return ["## What it can do", f"{said}.", *table]


def _cannot(thing: Kind, certificate: Certificate) -> Iterator[str]:
    """Yield the limits that follow from what it is, and the classes in which it fails most."""
    if thing == "adapter":
        yield "It is of use with the generator that it was made for, and with no other."
        yield "What it draws may look like a private image: see below how that was attacked."
        return
    yield "It names one of its classes for every image, also for one that shows none of them."
    yield "Its accuracy is that of images from the same source, prepared in the same way; on others nobody measured it."
    yield "Its probabilities are not checked for calibration here: read them as a ranking."
    known = {name: found for name, found in certificate.use.per_class.items() if found is not None}
    if thing == "student" and known:
        worst = min(known, key=known.__getitem__)
        yield f"It is worst at {markdown(worst)}: {percent(known[worst] / 100)} of its images are named right."
    unseen = [name for name in certificate.data.classes if known and name not in known]
    if thing == "student" and unseen:
        yield f"Not measured for want of test images: {', '.join(markdown(name) for name in unseen)}."


def _attacks(thing: Kind, certificate: Certificate) -> list[str]:
    rows = _rows(thing, certificate)
    if not rows:
        return ["Its own leak was **not measured**."]
    lines = [
        f"| {row.title} | {one.label} ({said}) | {_interval(one)} | {percent(one.tpr.value)} at {percent(one.tpr.fpr)} |"
        for row in rows
        for one, said in _shown(row)
    ]
    head = "| attacked | attack | AUC_MIA (interval) | members found, at false alarms |\n| --- | --- | --- | --- |\n"
    limits = [f"{row.title}: {row.limits}" for row in rows if row.limits]
    holds = [f"{row.title}: {row.attacker}" for row in rows]
    return [
        f"{rows[0].n_members:,} members and {rows[0].n_non_members:,} others were attacked; an AUC of 50 % is a guess.",
        head + "\n".join(lines),
        *limits,
        *holds,
    ]


def _shown(row: Row) -> Iterator[tuple[Attack, str]]:
    """Yield the attack that was named before the run, and that with the largest AUC of the others."""
    yield row.primary, "of record"
    others = [one for one in row.attacks if not one.primary]
    if others:
        yield max(others, key=lambda one: one.auc.value), "largest of the others, for comparison"


def _interval(one: Attack) -> str:
    return f"{percent(one.auc.value)} ({percent(one.auc.low)} to {percent(one.auc.high)})"


def _library(folder: Path, thing: Kind) -> str:
    if thing == "adapter":
        return "diffusers"
    return "transformers" if (folder / "classifier.json").is_file() else "tckr"


def _use(folder: Path, thing: Kind, certificate: Certificate) -> str:
    """Return how to open it, by how it is saved."""
    version = certificate.governance.made.versions.get("tckr", "")
    if thing == "adapter":
        if (folder / LORA).is_file():
            return DIFFUSERS
        return f"It opens with tckr {version}: `tckr.diffusion.stored.load_trained(folder)`."
    about = folder / "classifier.json"
    if about.is_file():
        found = json.loads(about.read_text("utf-8"))
        return TRANSFORMERS.format(
            side=found["side"],
            mode=_mode(found["channels"]),
            mean=found["mean"],
            std=found["std"],
        )
    config = _config(folder)
    colour = _channels(config) == 3
    return OURS.format(
        name="model.class_names[int(probabilities.argmax())]"
        if ID2LABEL in config
        else "int(probabilities.argmax())",
        version=version,
        mode=_mode(3 if colour else 1),
        colour=", 3" if colour else "",
        batch="pixels.permute(2, 0, 1)[None]" if colour else "pixels[None, None]",
    )


def _mode(channels: int) -> str:
    return "RGB" if channels == 3 else "L"


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return dict(json.loads(file.read_text("utf-8"))) if file.is_file() else {}


def _channels(config: dict[str, Any]) -> int:
    """Return the channels of the images that a network of ours reads, 1 grey or 3 colour; CLIP's reads both as colour."""
    if config.get("features") == "clip":
        return 3
    shape = config.get("shape") or [config.get("network", {}).get("channels", 1)]
    return int(config.get("channels") or shape[0])
