"""Names for what nodes hand on.

Kedro reads the annotations of every node at start-up, so classes that need torch, which takes seconds to import, cannot
stand there themselves.
"""

from typing import Any, TypeAlias

Classifier: TypeAlias = Any
"""A trained `tckr.classifiers.resnet.ResNet`."""

Adapter: TypeAlias = Any
"""A `tckr.diffusion.lora.Adapter`."""

Tensors: TypeAlias = dict[str, Any]
"""Named torch tensors."""
