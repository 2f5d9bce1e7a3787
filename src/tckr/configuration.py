"""How configuration is read: as Kedro does, with `~` for the user's home folder in every place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from tckr.synthesizers.mixture import with_arms


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader; a text that begins with `~/` is a path in the user's home folder, wherever it is given.

    Kedro would put the project's folder before it. Files are read once a run: Kedro asks for the parameters four times. A
    mixture that names other arms carries their parameters.
    """

    def __init__(
        self, *args: Any, runtime_params: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Take Kedro's arguments; parameters of the command line are expanded at once, for all who read them."""
        self._found: dict[str, Any] = {}
        super().__init__(*args, runtime_params=expanded(runtime_params), **kwargs)

    def __getitem__(self, key: str) -> Any:
        """Return a part of the configuration, its paths expanded; it is the caller's own."""
        if key not in self._found:
            found = super().__getitem__(key)
            self._found[key] = with_arms(found, found) if key == "parameters" else found
        return expanded(self._found[key])

    def __setitem__(self, key: str, value: Any) -> None:
        """Set a part of the configuration in place of what the files say."""
        self._found.pop(key, None)
        super().__setitem__(key, value)


def expanded(values: Any) -> Any:
    """Return nested values in which every text that begins with `~/` is an absolute path.

    >>> expanded({"images": "~/pictures", "n": [1, "a ~/b"]})["images"] == str(Path.home() / "pictures")
    True
    >>> expanded({"n": [1, "a ~/b"]})
    {'n': [1, 'a ~/b']}
    """
    if isinstance(values, Mapping):
        return {key: expanded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(map(expanded, values))
    if isinstance(values, str) and (values == "~" or values.startswith("~/")):
        return str(Path(values).expanduser())
    return values
