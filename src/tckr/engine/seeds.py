"""One `seed` for a whole run; every stage derives its own from it by name."""

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """Return the seed of the part called `names`, in 0 .. 2**31 - 1.

    A stage's seed depends on the run's seed and its own name alone, so adding a stage, or running one alone, leaves
    the random numbers of the others as they were.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
