"""What the students of `benchmarks.kr` give away: shadows that repeat teacher and student on the images held fixed."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from benchmarks.kr_shared import OPTIONS, Cache, Images, classifier
from benchmarks.measure import now
from benchmarks.private_teacher import score

from tckr.attacks.registry import ATTACKS
from tckr.audit.audit import audit
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.classifiers.models import load as load_classifier
from tckr.classifiers.options import DistillationOptions, RegenerationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.engine.shards import visible_devices
from tckr.synthesizers.private_set import SyntheticSet


def leak(given: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Attack the teacher and, of each arm, students whose rows lie in the cache: those asked for, or the first and the last."""
    clock, cache, device = now(), Cache(given.cache), best()
    images, recipe = Images(given, cache), classifier(given)
    members, holdout = images.split["members"], images.split["holdout"]
    pixels, labels = (torch.cat(pair) for pair in zip(members, holdout, strict=True))
    inside = np.arange(len(labels)) < len(members[1])
    chosen = [(arm, option) for arm in given.arms for option in asked(given, arm, seed)]
    steps = recipe.steps(len(members[1]))
    membership = membership_matrix(len(labels), given.shadows, 0.5, derive(seed, "membership"))
    options = AuditOptions(n_shadows=given.shadows, release=ReleaseThreat(encoder="none"))
    targets = {"teacher": load_classifier(given.cache / f"teacher-{seed}")}
    accuracies = {"teacher": score(targets["teacher"], images.split["test"])[0]}
    found: dict[str, Any] = {}
    # Sets in slices are read slice by slice, which is a way of training of its own.
    for slices in sorted({int(cache.get(f"set-{a}-{seed}-{o}")["slices"]) for a, o in chosen}):
        pools, students = {}, {}
        for arm, option in chosen:
            kept = cache.get(f"set-{arm}-{seed}-{option}")
            if int(kept["slices"]) == slices:
                name, drawn = f"{arm}.{option}", SyntheticSet(kept["images"], kept["labels"])
                # An option that chose what was there already has the set, and so the shadows, of the one before.
                pool = next((p for p, known in pools.items() if _same(known, drawn)), name)
                pools.setdefault(pool, drawn)
                students[name] = StudentConfig(pool, "on_the_fly")
                targets[name] = load_classifier(given.cache / f"student-{arm}-{seed}-{option}")
                accuracies[name] = kept["accuracy"]
        regenerate = RegenerationOptions(slices=slices) if slices > 1 else None
        config = ShadowConfig(
            pixels, labels, len(images.names), steps, recipe,
            DistillationOptions(labels="on_the_fly", patience=given.patience, regenerate=regenerate),
            derive(seed, "shadows"), students=students, pools=pools, device=device, stack=given.stack,
        )  # fmt: skip
        cards = visible_devices()
        found |= run_shadows(config, membership, devices=cards if len(cards) > 1 else ())
    minutes = (now() - clock) / 60
    for name, model in targets.items():
        scores = model_scores(model.to(device), pixels, labels, 1, recipe.augmentation)
        result = audit(
            scores, found[name], membership, inside, accuracy_percent=accuracies[name], options=options,
            scope="classifier" if name == "teacher" else "distillation",
        )  # fmt: skip
        figures = result.attacks[options.attack].in_percent()
        arm, _, option = name.partition(".")
        yield {
            "arm": arm, "option": option, "seed": seed, "accuracy": accuracies[name], **figures, "shadows": given.shadows,
            "attack": ATTACKS[options.attack].title, "minutes": minutes,
        }  # fmt: skip


def asked(given: argparse.Namespace, arm: str, seed: int) -> list[str]:
    """Return the options of one arm to attack; what was asked for and does not lie in the cache is an error."""
    rows = [o for o in OPTIONS if (given.cache / f"set-{arm}-{seed}-{o}.pt").is_file()]
    wanted = given.options or [*rows[:1], *rows[-1:]]
    if missing := [o for o in wanted if o not in rows] or ([] if rows else ["none"]):
        raise SystemExit(
            f"{given.cache} holds no set of {arm}, seed {seed}, option {', '.join(missing)}: "
            "run the same command without --audit first, with enough --minutes"
        )
    return list(dict.fromkeys(wanted))


def _same(one: SyntheticSet, other: SyntheticSet) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
