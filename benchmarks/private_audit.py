"""The arm `private` on half of Fashion-MNIST, attacked through shadows on other halves: measured leak under the proven bound.

    python -m benchmarks.private_audit data/01_raw/fashion_mnist_full [--epsilon 1 10] [--shadows 32]
    python -m benchmarks.private_audit --small      # the shipped sample, a minute or two on a CPU

PATH is anything that ingestion reads. Half of all images but 5,000 are members, the others holdout. The arm is fitted as its
pipeline does, each shadow repeats the private teacher on half of members and holdout under a ledger of its own, and the student
on that teacher's labels of the fixed synthetic images (scope `distillation`). The attack of record is named here: LiRA, online.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.measure import Report, machine
from benchmarks.private_teacher import ROOT, labelled, score

from tckr.audit.audit import audit
from tckr.audit.guarantee import guarantee
from tckr.audit.membership import membership_matrix
from tckr.audit.options import AuditOptions, ReleaseThreat
from tckr.audit.resynthesis import OwnTeacher
from tckr.audit.shadow_config import ShadowConfig, StudentConfig
from tckr.audit.shadow_models import run_shadows
from tckr.audit.signals import model_scores
from tckr.classifiers.distillation import train_student
from tckr.classifiers.options import ClassifierOptions, DistillationOptions
from tckr.classifiers.private_options import PrivateTeacherOptions
from tckr.diffusion.options import SamplingOptions
from tckr.diffusion.private_options import DPAdaptationOptions
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.ingest import ingest
from tckr.images.options import IngestionOptions
from tckr.images.tables import of_split
from tckr.synthesizers.private import Private, PrivateBudget, PrivateDrawingOptions
from tckr.synthesizers.private_set import PrivateSet
from tckr.synthesizers.under_dp import UnderDP
from tckr.text.options import CaptionOptions, WordsOptions

MODELS = ROOT / "data/06_models/foundation"
SAMPLE = ROOT / "data/01_raw/fashion_mnist"
COLUMNS = {
    "epsilon": "epsilon", "model": "model", "accuracy": "accuracy %", "AUC_MIA": "AUC %", "AUC_MIA_low": "from",
    "AUC_MIA_high": "to", "bound": "AUC at most %", "TPR_at_1pct_FPR": "TPR at 1 % FPR", "tpr_bound": "at most",
    "measured_epsilon": "epsilon at least", "minutes": "minutes",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, attack and compare at every epsilon; print the table and save it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="the private set and its test split")
    parser.add_argument("--epsilon", type=float, nargs="+", help="[1 10]")
    parser.add_argument("--shadows", type=int, help="[32]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="where to save the result")
    given = parser.parse_args(arguments)
    report = Report(given.json)
    report.set(**machine(best()), arguments={k: str(v) for k, v in vars(given).items()})
    images = Images(given)
    report.set(members=len(images.members.labels), test=len(images.test[0]))
    for epsilon in given.epsilon or ([10.0] if given.small else [1.0, 10.0]):
        arm = private_arm(epsilon, given.small)
        for row in attacked(images, arm, epsilon, given.shadows or (8 if given.small else 32)):
            report.add("rows", row)
    report.show(f"{report.result['members']:,} members", "rows", COLUMNS)


class Images:
    """Members, holdout and test images."""

    def __init__(self, given: argparse.Namespace) -> None:
        sizes: dict[str, Any] = {"validation": 5000}
        if given.small:
            sizes = {"members": 900, "validation": 30, "holdout": 900, "test": 300}
        with chdir(ROOT):
            table, _ = ingest(given.images or SAMPLE, IngestionOptions(size=28, **sizes), 0)
        self.take(table)
        self.seed = given.seed

    def take(self, table: pd.DataFrame) -> None:
        """Take the splits of an image table that are trained on, attacked and tested."""
        self.names = [str(name) for name in sorted(table["class_name"].unique())]
        audited = of_split(table, "members", "holdout")
        self.pixels, self.labels = labelled(audited, self.names)
        self.is_member = (audited["split"] == "members").to_numpy()
        rows = np.flatnonzero(self.is_member).tolist()
        self.members = PrivateSet(self.pixels, self.labels, self.names).at(rows)
        self.test = labelled(of_split(table, "test"), self.names)


def private_arm(epsilon: float, small: bool) -> Private:
    """Return the arm with the defaults of `conf/base/parameters_private.yml`."""
    gpu = best() == "cuda"
    generator = str(MODELS / "generator")
    return Private(
        privacy=PrivateBudget(epsilon=epsilon),
        captioning=CaptionOptions(
            captioner=str(MODELS / "captioner"), max_new_tokens=44, batch_size=4000 if gpu else 100
        ),
        words=WordsOptions(),
        generator_adaptation=DPAdaptationOptions(generator=generator),
        private_teacher=PrivateTeacherOptions(steps=20 if small else 100),
        classifier=ClassifierOptions(architecture="scattering"),
        knowledge_recycling=PrivateDrawingOptions(
            sampling=SamplingOptions(
                steps=2 if small else 6, guidance_scale=1.0, batch_size=1000 if gpu else 50
            )
        ),
    )


def attacked(images: Images, arm: UnderDP, epsilon: float, n_shadows: int) -> list[dict[str, Any]]:
    """Return a row for the teacher of an arm and one for its student."""
    start, seed, device = time.perf_counter(), images.seed, best()
    fitted = arm.fit(images.members, seed, device)
    released = fitted.sample(len(images.members.labels), seed)
    distillation, recipe = DistillationOptions(labels="on_the_fly"), arm.classifier
    steps = recipe.steps(len(images.members.labels))
    teacher = fitted.artefacts["teacher"].to(device)
    student = train_student(
        *released, recipe, derive(seed, "student"), len(images.names), distillation=distillation, steps=steps,
        teacher=teacher, device=device,
    )  # fmt: skip
    targets = {"teacher": teacher, "student": student.to(device)}
    membership = membership_matrix(len(images.labels), n_shadows, 0.5, derive(seed, "membership"))
    shadows = run_shadows(
        ShadowConfig(
            images.pixels, images.labels, len(images.names), steps, recipe, distillation, derive(seed, "shadows"),
            students={"student": StudentConfig("released", "on_the_fly")}, pools={"released": released},
            own_teacher=OwnTeacher(arm, images.names), device=device,
        ),
        membership,
    )  # fmt: skip
    ledger = fitted.artefacts["ledger"]
    options = AuditOptions(
        attack="lira_online", delta=ledger.delta, release=ReleaseThreat(encoder="none")
    )
    audits = {}
    for name, model in targets.items():
        scores = model_scores(model, images.pixels, images.labels, 1, recipe.augmentation)
        accuracy = score(model.cpu(), images.test)[0]
        audits[name] = audit(
            scores, shadows[name], membership, images.is_member, accuracy_percent=accuracy, options=options,
            scope="classifier" if name == "teacher" else "distillation",
        )  # fmt: skip
    proven = guarantee(ledger, audits, options.fprs)
    minutes = (time.perf_counter() - start) / 60
    rows = []
    for name, found in audits.items():
        attacks = {each: result.in_percent() for each, result in found.attacks.items()}
        rows.append(
            {
                "epsilon": epsilon, "mu": proven.mu, "model": name, **found.with_accuracy(), "bound": 100 * proven.auc,
                "tpr_bound": 100 * proven.tprs[0].tpr, "minutes": minutes, "attacks": attacks,
                "measured_epsilon": max(row.epsilon for row in proven.compared if row.thing == name),
                "contradicts": [row.attack for row in proven.compared if row.tpr > row.bound_of_two],
            }
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    with torch.random.fork_rng():
        main()
