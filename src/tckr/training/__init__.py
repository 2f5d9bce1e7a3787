"""Training loop, optimizers and captured steps, for models of any kind."""

from tckr.training.cuda_graph import GraphedStep
from tckr.training.loop import minimize
from tckr.training.optimizers import AdamW, Muon

__all__ = ["AdamW", "GraphedStep", "Muon", "minimize"]
