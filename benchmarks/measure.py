"""What the benchmarks of the three model stages share: clocks, memory, the card's matrix rate, tables, files."""

import json
import platform
import resource
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import diffusers
import torch
import transformers
from rich.console import Console
from rich.table import Table

GIB = 2**30
Result = TypeVar("Result")


def now() -> float:
    """Seconds on a clock, read once the GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def weights_gib(modules: Iterable[torch.nn.Module]) -> float:
    """Memory of all parameters, GiB."""
    return sum(p.nbytes for module in modules for p in module.parameters()) / GIB


@dataclass(frozen=True)
class Cost:
    """Of one piece of work.

    Attributes:
        seconds: by the clock, the GPU's work included.
        device_peak_gib: the largest amount of GPU memory in use, the weights of the models at work included, those of
            other models not; None without a GPU.
        host_peak_gib: the largest this process ever was.
    """

    seconds: float
    device_peak_gib: float | None
    host_peak_gib: float


def measure(work: Callable[[], Result], weights: float = 0.0) -> tuple[Result, Cost]:
    """Do `work` once, with a clock and an eye on memory.

    Args:
        weights: GiB of the models at work, which are on the GPU before it begins.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else 0
    start = now()
    result = work()
    seconds = now() - start
    peak = weights + (torch.cuda.max_memory_allocated() - before) / GIB if on_gpu else None
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return result, Cost(seconds, peak, host)


def matrix_rate(side: int, device: str) -> float:
    """Operations a second of a product of two square matrices, bfloat16, on a CPU float32; the best of five."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    left = torch.randn(side, side, device=device, dtype=dtype)
    best = 0.0
    for _ in range(5):
        start = now()
        for _ in range(10):
            left @ left
        best = max(best, 10 * 2 * side**3 / (now() - start))
    return best


def machine(device: str) -> dict[str, str]:
    """What ran the benchmark."""
    return {
        "machine": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "diffusers": diffusers.__version__,
    }


@dataclass
class Report:
    """A result that is printed and saved as it grows, so that a run that is cut short keeps what it has.

    Attributes:
        path: JSON file, or None.
        result: what is saved.
    """

    path: Path | None
    result: dict[str, Any] = field(default_factory=dict)
    console: Console = field(default_factory=lambda: Console(width=150))

    def set(self, **values: Any) -> None:
        """Add values, and save."""
        self.result |= values
        if self.path:
            self.path.write_text(json.dumps(self.result, indent=2) + "\n")

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add a row to a list, print it on a line of its own, and save."""
        self.set(**{table: [*self.result.get(table, []), row]})
        shown = [f"{k} {_text(v)}" for k, v in row.items() if v is not None and not isinstance(v, list)]  # fmt: skip
        self.console.print(f"{table}: {', '.join(shown)}", highlight=False)

    def merge(self, files: Iterable[Path]) -> None:
        """Take the rows of several processes' results, and all else but a summary from the first."""
        parts = [json.loads(file.read_text()) for file in files]
        self.set(**{k: v for k, v in parts[0].items() if k not in ("rows", "summary")})
        self.set(rows=[row for part in parts for row in part["rows"]])

    def show(self, title: str, table: str, columns: Mapping[str, str]) -> None:
        """Print a list as a table.

        Args:
            columns: headings by key of the rows.
        """
        shown = Table(title=title)
        for number, name in enumerate(columns.values()):
            shown.add_column(name, justify="right" if number else "left")
        for row in self.result.get(table, []):
            shown.add_row(*(_text(row.get(key)) for key in columns))
        self.console.print(shown)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
