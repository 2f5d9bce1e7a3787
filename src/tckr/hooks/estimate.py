"""How long a run will take, roughly: recorded costs, scaled by a short probe of the machine at hand."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

# Seconds by unit of work with the shipped models at 28 x 28 pixels, on a machine whose probe gives REFERENCE.
# Recorded on two cores of an AVX2 machine, each with the probe beside it.
REFERENCE = 100.0
COSTS = {
    "caption": 0.004,  # an image
    "adaptation": 0.6,  # a step of 32 images
    "denoising": 0.004,  # an image's pass through the denoiser; guidance takes two a step
    "classifier": 0.024,  # a step of 64 images
    "distillation": 0.032,  # a step of 64 images, the teacher's pass included
}
ONE_THREAD = 1.7  # how much longer a shadow takes in a process of one thread than with the two of the costs above


def speed(seconds: float = 0.4) -> float:
    """Return how many probe convolutions a second this CPU does now; 0 where a GPU will do the work."""
    import torch

    if torch.cuda.is_available():
        return 0.0
    images, weights = torch.randn(64, 32, 16, 16), torch.randn(64, 32, 3, 3)
    done, start = 0, time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - start < seconds:
            torch.nn.functional.conv2d(images, weights, padding=1)
            done += 1
    return done / (time.perf_counter() - start)


def estimate(
    stages: Sequence[str], counts: Mapping[str, int], parameters: Mapping[str, Any], probe: float
) -> float | None:
    """Return the seconds that `stages` will take; None where that is unknown, as on a GPU.

    Args:
        stages: those that will run.
        counts: members and holdout.
        parameters: typed options by name.
        probe: result of `speed`.
    """
    needs_recipe = {"student_training", "privacy_audit", "cardinality_sweep"} & set(stages)
    if not probe or (needs_recipe and "classifier" not in parameters):
        return None
    return sum(_work(stage, counts, parameters) for stage in stages) * REFERENCE / probe


def _work(stage: str, counts: Mapping[str, int], parameters: Mapping[str, Any]) -> float:
    """Seconds of one stage on the reference machine."""
    members = counts["members"]
    recipe = parameters.get("classifier")
    steps = recipe.steps(members) * recipe.batch_size / 64 if recipe else 0.0
    if stage == "captioning":
        return members * COSTS["caption"]
    if stage == "generator_adaptation":
        schedule = parameters[stage].schedule_for(members)
        return schedule.steps * schedule.batch_size / 32 * COSTS["adaptation"]
    if stage in ("teacher", "knowledge_recycling"):
        options = parameters["knowledge_recycling"]
        images = members * options.cardinality if stage == "knowledge_recycling" else 0
        return steps * COSTS["classifier"] + _drawing(images, options)
    if stage == "student_training":
        return _student(steps, parameters)
    if stage == "privacy_audit":
        return _audit(members, steps, parameters)
    return _sweep(members, steps, parameters) if stage == "cardinality_sweep" else 0.0


def _audit(members: int, steps: float, parameters: Mapping[str, Any]) -> float:
    """Seconds of the shadows, which are trained side by side, one a core, and of asking the generator."""
    options = parameters["privacy_audit"]
    students = 9 if options.attribution else 1  # the counterfactual ones beside the student
    group = steps * COSTS["classifier"] + students * _student(steps, parameters)
    if options.scope == "pipeline":
        pools = 4 if options.attribution else 1
        recycling = parameters["knowledge_recycling"]
        group += _work("generator_adaptation", {"members": members}, parameters)
        group += pools * _drawing(members * recycling.cardinality, recycling)
    asked = 2 * min(options.asked or members, members)
    questions = asked * 2 * options.generator.passes * COSTS["denoising"]
    return ONE_THREAD * options.n_shadows * group / options.workers + questions


def _sweep(members: int, steps: float, parameters: Mapping[str, Any]) -> float:
    """Seconds of one pool, a student a cardinality and, in every shadow, as many."""
    options, audit = parameters["cardinality_sweep"], parameters["privacy_audit"]
    pool = members * options.cardinalities[-1]
    students = len(options.cardinalities) * _student(steps, parameters)
    group = steps * COSTS["classifier"] + students
    shadows = ONE_THREAD * audit.n_shadows * group / audit.workers
    drawing = _drawing(pool, parameters["knowledge_recycling"])
    return drawing + students + (shadows if options.audit else 0)


def _student(steps: float, parameters: Mapping[str, Any]) -> float:
    """Seconds of one student whose teacher took `steps`, on the reference machine."""
    distillation = parameters.get("student_training")
    patience = distillation.patience if distillation is not None else 1.0
    return steps * patience * COSTS["distillation"]


def _drawing(images: float, options: Any) -> float:
    """Seconds of sampling on the reference machine."""
    passes = options.sampling.steps * (2 if options.sampling.guidance_scale > 1 else 1)
    return images * passes * COSTS["denoising"]
