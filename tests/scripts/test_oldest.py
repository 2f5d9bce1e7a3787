"""The oldest allowed versions are those that pyproject.toml names."""

import re
import tomllib
from importlib import util
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script() -> ModuleType:
    spec = util.spec_from_file_location("oldest", ROOT / "scripts/oldest.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_but_torch_is_pinned_to_its_lower_bound(script: ModuleType) -> None:
    pins = [Requirement(pin) for pin in script.oldest(ROOT / "pyproject.toml")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = chain.from_iterable(project["optional-dependencies"].values())
    texts = [*project["dependencies"], *extras]
    wanted = {Requirement(text).name: Requirement(text) for text in texts}

    assert sorted(pin.name for pin in pins) == sorted(wanted.keys() - {"torch"})  # each once
    for pin in pins:
        (version,) = (bound.version for bound in pin.specifier)
        assert version in wanted[pin.name].specifier


def test_a_dependency_without_a_lower_bound_is_named(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy<3"]\n')

    with pytest.raises(ValueError, match="numpy<3 has no lower bound"):
        script.oldest(tmp_path / "pyproject.toml")


def test_what_is_locked_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(
        line.split("==")
        for line in (ROOT / "requirements.lock").read_text().split()
        if "==" in line
    )
    known = {re.sub("[-_.]+", "-", name).lower(): version for name, version in locked.items()}
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(known[wanted.name.lower()]), text
        assert any(bound.operator == "<" for bound in wanted.specifier), text
