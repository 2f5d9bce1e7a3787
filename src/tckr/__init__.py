"""tckr: turn a private labelled image set into a synthetic one, and measure what both give away."""

import os

from tckr.engine.memory import keep_freed_memory

# Threads that wait for each other may spin only briefly: beside any other work on the same cores, the default made a
# training step ten times slower. Read when torch is first imported.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

keep_freed_memory()

__version__ = "0.1.0"
