"""Whatever a step returns, as a folder in the format of its type."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tckr.datasets.folder import FolderDataset
from tckr.datasets.tensors import TENSORS, read_tensors, write_tensors
from tckr.errors import UserError

TABLE = "table.parquet"
VALUE = "value.json"
ADAPTER, UPDATE = "pytorch_lora_weights.safetensors", "denoiser_update.safetensors"
PARTS = "parts"
SNAPSHOTS = "snapshots.json"


class ArtefactDataset(FolderDataset[Any]):
    """A versioned folder that stores one artefact by its type, for catalog patterns that match many entries.

    | type | file |
    | --- | --- |
    | pandas DataFrame | `table.parquet` |
    | dict of str to torch Tensor, not empty | `tensors.safetensors` |
    | `tckr.diffusion.adapter.Adapter` | `pytorch_lora_weights.safetensors` |
    | `tckr.diffusion.update.DenoiserUpdate` | `denoiser_update.safetensors` |
    | list of dicts of artefacts by name, where JSON does not do | one of these in `parts/<number>/<name>` each |
    | `tckr.diffusion.snapshots.Snapshots` | `snapshots.json`, `denoiser_<number>.safetensors` |
    | value that JSON returns unchanged: str, int, finite float, bool, list, dict of str | `value.json` |

    In the catalog:

    ```yaml
    "{arm}.{artefact}":
      type: tckr.datasets.artefact.ArtefactDataset
      filepath: data/06_models/{arm}/{artefact}
      versioned: true
    ```

    In Python:

    >>> import tempfile
    >>> votes = ArtefactDataset(filepath=f"{tempfile.mkdtemp()}/votes")
    >>> votes.save({"epsilon": 1.0, "votes": [3, 0, 2]})
    >>> votes.load()
    {'epsilon': 1.0, 'votes': [3, 0, 2]}
    """

    def read(self, path: Path) -> Any:
        """Load the artefact, tensors on the CPU.

        Raises:
            UserError: the folder does not hold exactly one artefact.
        """
        if (path / PARTS).is_dir():
            parts = sorted((path / PARTS).iterdir(), key=lambda part: int(part.name))
            return [
                {file.name: self.read(file) for file in sorted(part.iterdir())} for part in parts
            ]
        known = (TABLE, TENSORS, ADAPTER, UPDATE, SNAPSHOTS, VALUE)
        found = [name for name in known if (path / name).is_file()]
        if len(found) != 1:
            raise UserError(
                f"{path} holds {' and '.join(found) or 'no artefact'}, but exactly one artefact is needed.",
                "remove this version and run the step that makes it again.",
            )
        file = path / found[0]
        if found == [TABLE]:
            return pd.read_parquet(file)
        if found == [TENSORS]:
            return read_tensors(file)
        if found == [VALUE]:
            return json.loads(file.read_text(encoding="utf-8"))
        from tckr.diffusion.stored import load_trained

        return load_trained(path)

    def write(self, data: Any, path: Path) -> None:
        """Write the artefact.

        Raises:
            TypeError: the artefact is of no supported type.
        """
        if isinstance(data, pd.DataFrame):
            data.to_parquet(path / TABLE)
        elif _is_tensors(data):
            write_tensors(data, path / TENSORS)
        elif _is_trained(data):
            data.save(path)
        elif _are_parts(data):
            for number, part in enumerate(data):
                for name, artefact in part.items():
                    place = path / PARTS / str(number) / name
                    place.mkdir(parents=True)
                    self.write(artefact, place)
        else:
            (path / VALUE).write_text(self._as_json(data), encoding="utf-8")

    def _as_json(self, data: Any) -> str:
        try:
            text = json.dumps(data, allow_nan=False)
            same = _identical(json.loads(text), data)
        except (TypeError, ValueError):
            same = False
        if not same:
            raise TypeError(
                f"{self._filepath} cannot store a {type(data).__name__}: give a DataFrame, a dict of tensors, an"
                " Adapter, Snapshots, or a value that JSON returns unchanged."
            )
        return text


def _are_parts(data: Any) -> bool:
    """Whether this is a list of dicts of which at least one holds what JSON cannot."""
    if not isinstance(data, list) or not all(isinstance(part, dict) for part in data):
        return False
    held = [artefact for part in data for artefact in part.values()]
    return any(isinstance(a, pd.DataFrame) or _is_tensors(a) or _is_trained(a) for a in held)


def _is_tensors(data: Any) -> bool:
    if not isinstance(data, dict) or not data or not all(isinstance(name, str) for name in data):
        return False
    import torch

    return all(isinstance(value, torch.Tensor) for value in data.values())


def _is_trained(data: Any) -> bool:
    if not hasattr(data, "save"):
        return False
    from tckr.diffusion.stored import is_trained

    return is_trained(data)


def _identical(left: Any, right: Any) -> bool:
    """Whether two values are equal, down to the types: JSON would turn a tuple into a list and True == 1."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_identical(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_identical, left, right))
    return bool(left == right)
