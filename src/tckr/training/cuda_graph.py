"""Capture a training step as a CUDA graph, so that a small network does not wait for Python.

A step that launches hundreds of small kernels is limited by the time that the CPU takes to launch them. Captured
once, it is replayed by a single call (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections.abc import Callable, Sequence

import torch

WARM_UP = 3  # steps before the capture, so that every library has allocated what it needs


class GraphedStep:
    """A captured step: each call replays it.

    What a replay reads and writes are the very tensors that the step used when it was captured. Whoever owns the step
    therefore changes its inputs in place, and after the capture restores in place what the warm-up steps have changed.
    """

    def __init__(
        self,
        step: Callable[[], None],
        *,
        warmup: int = WARM_UP,
        generators: Sequence[torch.Generator] = (),
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """Run `step` `warmup` times, then capture it; the capture itself computes nothing.

        Args:
            step: one optimizer step on the current GPU, of fixed shapes, which never waits for the GPU.
            warmup: how often `step` runs before the capture.
            generators: on that GPU, from which `step` draws; torch's default generator need not be named. Replays
                draw what the same number of calls of `step` would draw.
            stream: where to warm up, capture and replay. Graphs with a stream each can be replayed side by side,
                because they share no workspace. None: the stream that is current when the step is replayed.
        """
        self.stream = stream
        side = torch.cuda.Stream() if stream is None else stream
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warmup):
                step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph, stream=stream):
            step()

    def __call__(self) -> None:
        """Replay the step, on its own stream if it has one."""
        with torch.cuda.stream(self.stream):  # None leaves the current stream
            self._graph.replay()
