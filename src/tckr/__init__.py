"""tckr: turn a private labelled image set into a synthetic one, and measure what both give away."""

import os

# Threads that wait for each other must not spin: on cores shared with anything else that made a training step ten
# times slower. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
