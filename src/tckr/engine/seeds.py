"""Derive the seed of each part of a run from the run's one seed, by name."""

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Return the seed of the part called `names`, in 0 .. 2**31 - 1.

    The seed of a stage depends only on the run's seed and on its own name: adding a stage, or running one alone, does
    not change the random numbers of the others.

    >>> derive(0, "shadows") == derive(0, "shadows") != derive(0, "shadows", 1)
    True
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
