"""The names of the classes travel with a classifier: `id2label` and `label2id` in its config.json, as in transformers."""

from collections.abc import Sequence
from typing import Any

from tckr.errors import UserError

ID2LABEL, LABEL2ID = "id2label", "label2id"


def named(network: Any, names: Sequence[str]) -> Any:
    """Give a network the names of the classes 0, 1, ..., which are saved with it; return the network.

    >>> from tckr.classifiers.resnet import ResNet
    >>> class_names(named(ResNet(1, 2, (4,), 1), ["bag", "boot"]))
    ['bag', 'boot']
    """
    if len(names) != network.n_classes:
        raise ValueError(f"{len(names)} names for a network of {network.n_classes} classes")
    network.class_names = tuple(str(name) for name in names)
    return network


def class_names(network: Any) -> list[str]:
    """Return the names of a network's classes; none if it was given none."""
    return list(getattr(network, "class_names", ()))


def in_config(network: Any) -> dict[str, Any]:
    """Return the names as config.json holds them; nothing if there are none.

    >>> from tckr.classifiers.resnet import ResNet
    >>> in_config(named(ResNet(1, 2, (4,), 1), ["bag", "boot"]))
    {'id2label': {'0': 'bag', '1': 'boot'}, 'label2id': {'bag': 0, 'boot': 1}}
    """
    names = class_names(network)
    if not names:
        return {}
    by_number = {str(number): name for number, name in enumerate(names)}
    return {ID2LABEL: by_number, LABEL2ID: {name: number for number, name in enumerate(names)}}


def from_config(config: dict[str, Any]) -> list[str]:
    """Take the names out of the content of a config.json, and return them in order."""
    config.pop(LABEL2ID, None)
    by_number = config.pop(ID2LABEL, None) or {}
    return [by_number[number] for number in sorted(by_number, key=int)]


def check_finite(network: Any, which: str) -> None:
    """Check that a trained network has finite weights.

    Raises:
        UserError: its training diverged.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        raise UserError(
            f"The weights of the {which} are not finite: its training diverged.",
            "lower classifier.learning_rate.",
        )
