"""The comparison of signals ranks those that leak above those that do not, whichever way they are calibrated."""

import numpy as np
from benchmarks.generator_attacks import compare

from tckr.audit.membership import membership_matrix


def test_a_signal_that_leaks_is_found_by_every_calibration() -> None:
    random, inside = np.random.default_rng(0), membership_matrix(400, 6, 0.5, 0)
    difficulty = 2 * random.normal(size=400)
    base = dict.fromkeys(("loss", "pia"), difficulty)
    noise = random.normal(size=(2, 6, 400))
    adapted = {"loss": difficulty + noise[0] + 2 * inside, "pia": difficulty + noise[1]}
    found = compare(base, adapted, inside)
    for way in ("base generator", "shadows, rmia", "shadows, lira"):
        assert found["loss"][way][1] > 75
        assert found["pia"][way][1] < 50 < found["pia"][way][2]
        assert found["loss"][way][0] > found["loss"]["uncalibrated"][0]
