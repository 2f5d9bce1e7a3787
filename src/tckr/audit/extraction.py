"""How many members the released images reproduce, in pixels and in features, against the same count for the holdout.

Carlini et al. (USENIX Security 2023, arXiv 2301.13188) call an example extracted if a generated image lies within a distance of
it, which for small images they take relative to the distances to other images (section 5.1), since dull images lie near to
everything. Here it is relative to the nearest of the reference images, as in DOMIAS (`tckr.attacks.nearest_neighbour`), and the
threshold is that which a fixed share of the holdout reaches.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tckr import metrics
from tckr.audit.options import AuditOptions
from tckr.audit.things import Extraction

# The scores of each space, and the nearest released image of each candidate.
SPACES: dict[Literal["pixels", "encoder"], tuple[str, str]] = {
    "pixels": ("density_ratio_pixels", "nearest_index_pixels"),
    "encoder": ("density_ratio", "nearest_index"),
}


def extract(
    images: Mapping[str, NDArray[Any]],
    is_member: NDArray[np.bool_],
    options: AuditOptions,
    clusters: NDArray[np.int64] | None = None,
) -> tuple[Extraction, ...]:
    """Count the members that the released images reproduce.

    Args:
        images: (N,) by name, of `tckr.attacks.nearest_neighbour`; a space whose arrays are not there is left out.
        is_member: bool (N,).
        options: the shares of the holdout, and the confidence, with which all bounds hold together (Bonferroni).
        clusters: int (N,), the person behind each image where some have several.

    >>> from tckr.audit.options import ReleaseThreat
    >>> random, is_member = np.random.default_rng(0), np.arange(600) < 300
    >>> ratio, nearest = random.normal(size=600), random.integers(0, 300, 600)
    >>> ratio[:10] = 9.0  # ten members are copied
    >>> options = AuditOptions(release=ReleaseThreat(encoder="not used here"))
    >>> near, less_near = extract({"density_ratio": ratio, "nearest_index": nearest}, is_member, options)
    >>> near.near_members, near.near_holdout, near.at_least > 0
    (15, 0, True)
    """
    spaces = [space for space, names in SPACES.items() if all(name in images for name in names)]
    holdout = int((~is_member).sum())
    if clusters is not None:
        holdout = len(np.unique(clusters[~is_member]))
    # Of few images two shares may be the same number of them, which is then one distance.
    distances = {int(share * holdout): share for share in reversed(options.release.extraction)}
    confidence = 1 - (1 - options.confidence) / max(1, len(spaces) * len(distances))
    found = []
    for space in spaces:
        nearness, index = (images[name] for name in SPACES[space])
        for allowed, share in sorted(distances.items()):
            one = metrics.extraction(nearness, is_member, allowed, confidence, clusters)
            of_members, of_holdout = (
                len(np.unique(index[one.near & side])) for side in (is_member, ~is_member)
            )
            found.append(
                Extraction(
                    space=space,
                    share=share,
                    near_members=one.near_members,
                    n_members=one.n_members,
                    near_holdout=one.near_others,
                    n_holdout=one.n_others,
                    chance=one.chance,
                    p_value=one.p_value,
                    at_least=one.at_least,
                    needed=one.needed,
                    confidence=options.confidence,
                    released_of_members=of_members,
                    released_of_holdout=of_holdout,
                )
            )
    return tuple(found)
