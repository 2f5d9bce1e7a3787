"""How much a soft label says of its teacher: the channel from the members to a student, as a knob.

A teacher's probabilities tell more of its training images than its decisions do, the small ones most of all. Three ways to
let them say less, which compose in this order: temperature, the largest alone, a largest value.
"""

from torch import Tensor
from torch.nn import functional as F

from tckr.classifiers.options import SoftLabelOptions


def soften(probabilities: Tensor, options: SoftLabelOptions) -> Tensor:
    """Return what is told of a teacher's probabilities.

    It is made of tensor operations of fixed shapes alone, so that a captured training step can contain it. The most probable
    class stays so.

    Args:
        probabilities: float (..., C), each row adds up to 1.
        options: temperature T, `top_k` and `confidence`; the defaults return the very tensor that was given.

    Returns:
        Probabilities of the same shape and type, no larger than `confidence`.

    Example:
        >>> import torch
        >>> said = torch.tensor([[0.9, 0.09, 0.01]])
        >>> soften(said, SoftLabelOptions(temperature=2)).round(decimals=3)
        tensor([[0.7030, 0.2220, 0.0740]])
        >>> soften(said, SoftLabelOptions(top_k=2)).round(decimals=3)
        tensor([[0.9090, 0.0910, 0.0000]])
        >>> soften(said, SoftLabelOptions(top_k=1, confidence=0.8)).round(decimals=3)
        tensor([[0.8000, 0.1000, 0.1000]])
    """
    said, n_classes = probabilities, probabilities.shape[-1]
    if options.temperature != 1:
        # Hinton et al. 2015 (arXiv 1503.02531), eq. 1, q_i = exp(z_i / T) / sum_j exp(z_j / T), with z = log p.
        said = F.softmax(said.log() / options.temperature, -1)
    if options.top_k is not None and options.top_k < n_classes:
        largest, places = said.topk(options.top_k, -1)
        kept = largest / largest.sum(-1, keepdim=True)
        said = said.new_zeros(said.shape).scatter(-1, places, kept)
    if options.confidence < 1:
        # What the largest has beyond the cap is shared out evenly among all others, which tells nothing more of them.
        top, place = said.max(-1, keepdim=True)
        excess = (top - options.confidence).clamp_min(0)
        share = excess / (n_classes - 1)
        said = (said + share).scatter(-1, place, top - excess)
    return said
