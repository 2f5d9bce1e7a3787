"""Bad parameters are refused in one line that names the key and the remedy."""

from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog
from kedro.io.memory_dataset import MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset
from pydantic import Field

from tckr.datasets.raw_images import RawImagesDataset
from tckr.errors import UserError
from tckr.hooks.checks import (
    check_inputs,
    check_mixed,
    check_parameters,
    check_places,
    check_shadows,
)
from tckr.hooks.models import models_of
from tckr.options import Options
from tckr.synthesizers.recycling import RecyclingOptions


class Inner(Options):
    steps: int = Field(10, ge=1, description="denoising steps")


class Outer(Options):
    rate: float = Field(0.1, gt=0, description="peak learning rate")
    inner: Inner = Inner()


def work(options: Outer, seed: int) -> int:
    return seed


STAGE = Pipeline([Node(work, ["params:stage", "params:seed"], "result", name="work")])


def test_good_parameters_pass() -> None:
    check_parameters(
        {"stage": {"rate": 1, "inner": {"steps": 3}}, "seed": 0, "images": "x"}, [STAGE]
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"stage": {}, "seed": 0, "stag": 1},
            "Parameter stag does not exist. Remedy: did you mean stage?",
        ),
        (
            {"stage": {"rat": 1}, "seed": 0},
            "Parameter stage.rat does not exist. Remedy: did you mean stage.rate?",
        ),
        (
            {"stage": {"inner": {"step": 3}}, "seed": 0},
            "Parameter stage.inner.step does not exist. Remedy: did you mean stage.inner.steps?",
        ),
        (
            {"stage": {"inner": {"steps": 0}}, "seed": 0},
            "Parameter stage.inner.steps = 0 is refused: input should be greater than or equal to 1. "
            "Remedy: give stage.inner.steps another value (denoising steps).",
        ),
        (
            {"stage": {"rate": "fast"}, "seed": 0},
            "Parameter stage.rate = 'fast' is refused: input should be a valid number",
        ),
        (
            {"stage": {}, "seed": "often"},
            "Parameter seed = 'often' is refused: input should be a valid integer",
        ),
        ({"stage": 3, "seed": 0}, "Parameter stage = 3 is refused"),
        ({"seed": 0}, "Parameter stage is not set."),
        ({"stage": {"rate": 0, "x": 1}, "seed": 0}, "(1 more after this one.)"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_parameters(parameters, [STAGE])

    assert said in str(error.value)
    assert "\n" not in str(error.value)


class Resumed(Options):
    checkpoints: str | None = None


class Long(Options):
    inner: Resumed = Resumed()


def test_a_file_in_the_place_of_checkpoints_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()

    check_places("stage", Long(inner=Resumed(checkpoints=str(tmp_path / "new/folder"))))
    for place in ("notes.txt", "notes.txt/below"):
        with pytest.raises(UserError, match=r"stage.inner.checkpoints = .*notes.txt is a file"):
            check_places("stage", Long(inner=Resumed(checkpoints=str(tmp_path / place))))


def test_a_url_is_a_place_of_checkpoints_where_the_stage_can_use_it() -> None:
    pytest.importorskip("upath", reason="needs universal-pathlib: pip install 'tckr[storage]'")
    check_places("privacy_audit", Resumed(checkpoints="memory://tckr/audit"))
    with pytest.raises(UserError, match=r"drawing.checkpoints = memory://tckr is a URL"):
        check_places("drawing", Resumed(checkpoints="memory://tckr"))


def test_the_engine_is_checked_like_a_stage() -> None:
    known = {"stage": {}, "seed": 0}
    check_parameters({**known, "engine": {"kind": "ray", "max_retries": 0}}, [STAGE])
    with pytest.raises(UserError, match=r"engine.kind = 'dask' is refused"):
        check_parameters({**known, "engine": {"kind": "dask"}}, [STAGE])
    with pytest.raises(UserError, match=r"engine.workers does not exist"):
        check_parameters({**known, "engine": {"workers": 2}}, [STAGE])


def test_a_mixture_is_checked_by_the_arm_that_draws_from_it(tmp_path: Path) -> None:
    control = {"knowledge_recycling": {"generator": str(tmp_path), "checkpoints": "memory://a"}}
    mixed = RecyclingOptions(mixture=[{"arm": "unadapted", "parameters": control}])
    check_mixed("knowledge_recycling", mixed)
    check_mixed("spti.knowledge_recycling", mixed)
    seeded = RecyclingOptions(mixture=[{"seed": 1}])
    check_mixed("knowledge_recycling", seeded)
    with pytest.raises(UserError, match=r"knowledge_recycling.mixture\[0\] \(seed 1\) .*ledger"):
        check_mixed("spti.knowledge_recycling", seeded)
    (generator,) = models_of("knowledge_recycling", mixed)
    below = "knowledge_recycling.mixture.0.parameters.knowledge_recycling"
    assert generator[:3] == (f"{below}.generator", "generator", str(tmp_path))
    (tmp_path / "file").touch()
    control["knowledge_recycling"]["checkpoints"] = str(tmp_path / "file")
    mixed = RecyclingOptions(mixture=[{"arm": "unadapted", "parameters": control}])
    with pytest.raises(UserError, match=f"{below}.checkpoints = .*is a file"):
        check_places("knowledge_recycling", mixed)


def test_more_shadows_than_audited_images_are_refused() -> None:
    check_shadows(120, 120, "privacy_audit.n_shadows")
    with pytest.raises(UserError, match=r"n_shadows = 122 is more than the 121.*lower it to 120"):
        check_shadows(122, 121, "privacy_audit.n_shadows")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(UserError, match=r"Parameter stage.rate = (inf|nan) is refused"):
        check_parameters({"stage": {"rate": value}, "seed": 0}, [STAGE])


class Column(Options):
    name: str


def test_a_number_does_where_a_text_is_wanted() -> None:
    assert Column.model_validate({"name": 1}).name == "1"


def test_what_a_stage_starts_from_must_exist(tmp_path: Any) -> None:
    pipeline = Pipeline([Node(len, "audit", "length", name="measure")])
    catalog = DataCatalog(
        {"audit": JSONDataset(filepath=str(tmp_path / "audit.json")), "length": MemoryDataset()}
    )

    with pytest.raises(UserError, match="starts from audit, which no run has made yet"):
        check_inputs(pipeline, catalog)
    catalog.save("audit", {})
    check_inputs(pipeline, catalog)


def test_images_of_a_number_or_nowhere() -> None:
    assert RawImagesDataset(filepath=2024)._filepath == Path("2024")
    for nowhere in (None, "", " "):
        with pytest.raises(UserError, match="The parameter images names no place"):
            RawImagesDataset(filepath=nowhere)


def test_images_that_are_not_there_are_named(tmp_path: Any) -> None:
    pipeline = Pipeline([Node(repr, "raw_images", "text", name="read")])
    catalog = DataCatalog({"raw_images": RawImagesDataset(filepath=str(tmp_path / "none"))})

    with pytest.raises(UserError, match=r"There are no images at .*none"):
        check_inputs(pipeline, catalog)
