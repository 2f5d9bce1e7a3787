"""Arms: ways from private images to a synthetic set. Each is one file that reads as its method."""

from tckr.synthesizers.base import Step, Synthesizer
from tckr.synthesizers.fitted import Fitted
from tckr.synthesizers.private_set import PrivateSet, SyntheticSet
from tckr.synthesizers.registry import SYNTHESIZERS, synthesizer_class

__all__ = [
    "SYNTHESIZERS",
    "Fitted",
    "PrivateSet",
    "Step",
    "Synthesizer",
    "SyntheticSet",
    "synthesizer_class",
]
