"""The solvers by which a generator can be sampled, built from its own noise schedule."""

from typing import Any

import diffusers

from tckr.diffusion.options import Solver

CLASSES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmsolver": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "lcm": "LCMScheduler",
}


def solver(scheduler: Any, name: Solver) -> Any:
    """A fresh scheduler of the kind `name` with the configuration of `scheduler`: betas, prediction type, spacing.

    Solvers keep state from step to step, so every batch needs one of its own.
    """
    kind = type(scheduler) if name == "as_downloaded" else getattr(diffusers, CLASSES[name])
    return kind.from_config(scheduler.config)
