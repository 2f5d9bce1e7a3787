"""Which attack at which number of shadows? A simulation with a known leak; it chose the default primary attack.

    python benchmarks/attacks.py [--examples 6000] [--draws 8] [--out result.json]

Every example has Gaussian scores of its own: mean N(3, 3^2), shifted by Gamma(0.5, 1.2) where it was trained on, with a
standard deviation of 0.5 to 2 (log-uniform); `equal` gives all the same deviation, `heavy` Student's t with 4 degrees of
freedom, `hard` a larger shift and spread to examples of low mean.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tckr.attacks import bavaria_t, lira, rmia, threshold
from tckr.audit.membership import membership_matrix
from tckr.metrics import auc, tpr_at_fpr

Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
Attack = Callable[..., NDArray[np.float64]]

SHADOWS = (4, 8, 16, 64)
SCENES = ("base", "equal", "heavy", "hard")
ATTACKS: dict[str, Attack] = {
    "bavaria_t": bavaria_t,
    "lira, one variance": lambda *arrays: lira(*arrays, variance="global"),
    "lira, a variance each": lira,
    "rmia": rmia,
    "bavaria_t, offline": lambda *arrays: bavaria_t(*arrays, online=False),
    "lira offline, one variance": lambda *arrays: lira(*arrays, online=False, variance="global"),
    "threshold": lambda target, *_: threshold(target),
}


def simulate(scene: str, n: int, n_shadows: int, seed: int) -> tuple[Arrays, NDArray[np.bool_]]:
    """Target (N,), shadow (S, N) and membership (S, N) scores, and who is a member (N,)."""
    random = np.random.default_rng([seed, n_shadows])
    mean, shift = random.normal(3, 3, n), random.gamma(0.5, 1.2, n)
    spread = np.exp(random.uniform(np.log(0.5), np.log(2), n))
    if scene == "equal":
        spread[:] = 1
    if scene == "hard":
        hard = 1 / (1 + np.exp((mean - 3) / 2))
        shift, spread = shift * 2 * hard, spread * (0.6 + 0.8 * hard)

    def noise(*shape: int) -> NDArray[np.float64]:
        if scene == "heavy":
            return random.standard_t(4, shape) / np.sqrt(2)
        return random.normal(size=shape)

    membership = membership_matrix(n, n_shadows, 0.5, int(random.integers(1 << 31)))
    inside = random.permutation(n) < n // 2
    target = mean + shift * inside + spread * noise(n)
    return (target, mean + shift * membership + spread * noise(n_shadows, n), membership), inside


def main() -> None:
    """Simulate, attack, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=6000)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for scene in SCENES:
        rows: dict[str, dict[int, list[float]]] = {name: {} for name in ATTACKS}
        for n_shadows in SHADOWS:
            draws = [
                simulate(scene, arguments.examples, n_shadows, i) for i in range(arguments.draws)
            ]
            for name, attack in ATTACKS.items():
                scored = [(attack(*arrays), inside) for arrays, inside in draws]
                areas = [auc(scores, inside).value for scores, inside in scored]
                rates = [tpr_at_fpr(scores, inside, 0.01).value for scores, inside in scored]
                rows[name][n_shadows] = [float(np.mean(areas)), float(np.mean(rates))]
        found[scene] = rows
        table = Table(title=f"{scene}: AUC / TPR at 1 % FPR, %, mean of {arguments.draws} draws")
        table.add_column("attack")
        for n_shadows in SHADOWS:
            table.add_column(f"{n_shadows} shadows", justify="right")
        for name, cells in rows.items():
            shown = [f"{100 * area:.1f} / {100 * rate:.1f}" for area, rate in cells.values()]
            table.add_row(name, *shown)
        Console().print(table)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
