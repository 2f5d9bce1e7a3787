"""Pictures of an evolution of prompts: of noisy votes and public renderings alone."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from PIL import Image

from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.synthesizers.base import Synthesizer
from tckr.synthesizers.private_set import PublicFacts


def draw_best_prompts(
    synthesizer: Synthesizer, artefacts: Mapping[str, Any], public_facts: dict[str, Any], seed: int
) -> Image.Image:
    """Show the prompts with most votes of every iteration, with images of them."""
    import torch

    from tckr.reporting.evolution import best_candidates, best_prompts

    chosen = best_candidates(artefacts["generations"])
    facts = PublicFacts(**public_facts)
    render = getattr(synthesizer, "render")  # noqa: B009 - of arms whose prompts evolve
    drawn = render(facts, chosen["prompt"].tolist(), derive(seed, "best prompts"), best())
    return best_prompts(chosen, torch.cat(list(drawn)))


def draw_vote_distances(vote_distances: pd.DataFrame) -> Image.Image:
    """Plot the distance of the prompts to the private set by iteration, as noisy votes see it."""
    from tckr.reporting.evolution import distance_curve

    return distance_curve(vote_distances)
