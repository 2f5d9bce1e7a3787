"""What the report's tables say of the audit: one row a released thing, an attack, a model with canaries."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MODELS = ("student", "teacher")
PRIOR = 0.1  # share of members among those asked about, of the precision in the first table


class Thing(NamedTuple):
    """Something that would be released, and what its attacker is assumed to have."""

    title: str
    attacker: str


THINGS: dict[str, Thing] = {
    "student": Thing(
        "Student (black box)",
        "May ask the student for its probabilities, holds the candidate image with its class, and can repeat the recipe"
        " on images of the same kind.",
    ),
    "teacher": Thing(
        "Teacher, for reference",
        "The same against the model trained on the private images themselves: what releasing that one would give away.",
    ),
    "generator": Thing(
        "Generator (white box)",
        "Holds the adapter's weights and the candidate image with its caption, and measures how well the denoiser knows"
        " it.",
    ),
    "images": Thing(
        "Images alone",
        "Holds the synthetic images, other images of the same kind and a public image encoder; no model to ask.",
    ),
    "prompts": Thing(
        "Prompts alone",
        "Holds the prompts, which stay inside unless knowledge_recycling.release_prompts hands them out, and the"
        " captioner, and captions the candidate image himself.",
    ),
}


def verdicts(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a thing, by its attack of record: name, title, attacker, auc, tpr, ppv (at `PRIOR`), epsilon, verdict."""
    rows = []
    for name, thing in THINGS.items():
        figures = audit[name]
        rows.append(
            {
                "name": name,
                **thing._asdict(),
                "attack": figures["label"],
                "auc": figures["auc"],
                "tpr": figures["tpr"],
                "ppv": precision(figures["tpr"]),
                "epsilon": figures["epsilon"],
                **verdict(figures["auc"]),
            }
        )
    return rows


def precision(rate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a true-positive rate's precisions the one at the prior nearest to `PRIOR`; None without any."""
    found: dict[str, Any] | None = min(
        rate["ppv"], key=lambda ppv: abs(ppv["prior"] - PRIOR), default=None
    )
    return found


def verdict(auc: Mapping[str, Any]) -> dict[str, Any]:
    """`verdict` in words and `leaks`: whether the interval of the AUC lies above one half."""
    leaks = bool(auc["low"] > 0.5)
    if auc["no_leak"]:
        words = "covers no leak: none shown, none ruled out"
    elif leaks:
        words = "leaks: the interval lies above no leak"
    else:
        words = "below no leak: the attack is worse than guessing"
    return {"verdict": words, "leaks": leaks}


def attacks(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table a thing: name, title, `rates` of its columns and `rows`, the attack of record first and marked."""
    tables = []
    for name, thing in THINGS.items():
        figures = audit[name]
        record = figures["attack_of_record"]
        order = sorted(figures["attacks"], key=lambda attack: attack != record)
        rows = [{"record": attack == record, **figures["attacks"][attack]} for attack in order]
        tables.append(
            {
                "name": name,
                "title": thing.title,
                "rates": [rate["fpr"] for rate in figures["tprs"]],
                "rows": rows,
                "n_members": figures["n_members"],
                "n_non_members": figures["n_non_members"],
            }
        )
    return tables


def canaries(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a model that was audited with mislabelled images; none without them."""
    return [
        {"model": model, **audit[model]["canaries"]}
        for model in MODELS
        if audit[model]["canaries"] is not None
    ]


def per_class(
    accuracy: Mapping[str, Any], counts: Mapping[str, int], confidence: float
) -> Iterator[dict[str, Any]]:
    """Yield one row a class: name, and for each model the accuracy in percent with its interval; None without images.

    Args:
        accuracy: classes, and each model's per_class in percent.
        counts: test images by class.
        confidence: of the intervals.
    """
    for place, name in enumerate(accuracy["classes"]):
        row: dict[str, Any] = {"name": name}
        for model in MODELS:
            value = accuracy[model]["per_class"][place]
            row[model] = None if value is None else right(value, counts[name], confidence)
        yield row


def right(percent: float, n_images: int, confidence: float) -> dict[str, float]:
    """An accuracy in percent with its interval (Clopper-Pearson), as shares: value, low, high."""
    from tckr.metrics import clopper_pearson

    low, high = clopper_pearson(round(percent / 100 * n_images), n_images, confidence)
    return {"value": percent / 100, "low": low, "high": high}
