"""The arms by name. A further arm is its file, a line here and a parameters file."""

from importlib import import_module

from tckr.errors import UserError
from tckr.synthesizers.base import Synthesizer

DEFAULT = "tckr"
SYNTHESIZERS = {
    "tckr": "tckr.synthesizers.tckr:TCKR",
    "kr": "tckr.synthesizers.kr:KR",
    "unadapted": "tckr.synthesizers.unadapted:Unadapted",
    "private": "tckr.synthesizers.private:Private",
    "privimage": "tckr.synthesizers.privimage:PrivImage",
    "spti": "tckr.synthesizers.spti:Spti",
}


def synthesizer_class(arm: str) -> type[Synthesizer]:
    """Return the class of an arm.

    >>> synthesizer_class("tckr").artefacts()
    ('captions', 'adapter', 'adaptation_losses')

    Raises:
        UserError: there is no such arm.
    """
    if arm not in SYNTHESIZERS:
        raise UserError(f"There is no arm {arm!r}.", f"choose one of {', '.join(SYNTHESIZERS)}.")
    module, _, name = SYNTHESIZERS[arm].partition(":")
    found: type[Synthesizer] = getattr(import_module(module), name)
    return found


def arm_of(kind: type[Synthesizer]) -> str:
    """Return the name of the arm that a class is.

    >>> arm_of(synthesizer_class("privimage"))
    'privimage'

    Raises:
        KeyError: no arm is this class.
    """
    names = {place: arm for arm, place in SYNTHESIZERS.items()}
    return names[f"{kind.__module__}:{kind.__qualname__}"]
