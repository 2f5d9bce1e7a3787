"""Settings travel with artefacts: what an earlier run used stays in force for what it made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from pydantic import BaseModel, ValidationError

from tckr.errors import UserError
from tckr.lineage import Artefact, Manifest, fingerprint
from tckr.options import leaves
from tckr.synthesizers.mixture import arms_of, belongs, with_arms

PARENT = "parent"  # the parameter that names the run to start from
RESUME = "resume"  # the parameter that names the unfinished run to take up, or `last`
NAMES = (PARENT, RESUME, "run_name")  # parameters that say what a run is, not what it does
ENGINE = "engine"  # the parameter group that says where shards run, whatever they are of
SEED = "seed"
PREFIX = "params:"
RAW, IMAGES = "raw_images", "images"  # an unversioned input, and the parameter that names its place


@dataclass(frozen=True)
class Past:
    """What a run starts from.

    Attributes:
        parent: the run that its inputs are read from; None for a run from raw images.
        inputs: those inputs by catalog entry.
        explicit: whether the user named the parent; then all of its settings stay, not only those behind the inputs.
    """

    parent: Manifest | None
    inputs: Mapping[str, Artefact]
    explicit: bool

    @property
    def inherited(self) -> set[str]:
        """Parameter groups that made the inputs; the seed alone may change after them."""
        return {group for made in self.inputs.values() for group in made.settings} - {SEED}

    @property
    def settings(self) -> dict[str, Any]:
        """Values of the groups that come from the parent."""
        if self.parent is None:
            return {}
        prints = {g: p for made in self.inputs.values() for g, p in made.settings.items()}
        if self.explicit:
            prints = {**self.parent.used, **prints}
        if SEED in self.parent.used:
            prints[SEED] = self.parent.used[SEED]
        return {group: self.parent.parameters[mark] for group, mark in prints.items()}

    @property
    def known(self) -> dict[str, Any]:
        """Every setting that the parent used or inherited, as `group.key`."""
        if self.parent is None:
            return {}
        used = {g: self.parent.parameters[mark] for g, mark in self.parent.used.items()}
        return dict(leaves(used)) | dict(leaves(self.settings))


def restore_settings(
    past: Past, given: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
) -> dict[str, tuple[Any, Any]]:
    """Put the settings of the past into the catalog, below what the command line gives now.

    What a run is held to, rather than made by, is always of today: options that say `of_today`.

    Args:
        past: what the run starts from.
        given: parameters of the command line.
        pipeline: that will run.
        catalog: whose parameters are changed.

    Returns:
        By `group.key` the values of the configuration that give way, and those used in their place.

    Raises:
        UserError: a given parameter would change nothing, or an old setting is no longer valid.
    """
    groups = {name.removeprefix(PREFIX) for name in pipeline.inputs() if name.startswith(PREFIX)}
    parameters = dict(catalog.load("parameters")) if "parameters" in catalog else {}
    given = with_arms(given, parameters)
    flat, inherited = dict(leaves(given)), past.inherited
    arms = _mixed_arms(groups - inherited, past, catalog)
    settings = {
        group: values
        for group, values in past.settings.items()
        if not (group in groups and getattr(catalog.load(f"{PREFIX}{group}"), "of_today", False))
    }
    for key, value in flat.items():
        if key not in NAMES and key.split(".")[0] != ENGINE:
            _check_effect(key, value, past, groups, pipeline, arms)
    changed: dict[str, tuple[Any, Any]] = {}
    for group, values in settings.items():
        used = given.get(SEED, values) if group == SEED else values
        if group not in inherited:
            used = _given_to_arms(_overlaid(used, _below(flat, group)), flat)
        now = dict(leaves({group: _lookup(parameters, group)}))
        for key, value in leaves({group: used}):
            if key in now and not _same(now[key], value):
                changed[key] = (now[key], value)
        _put(parameters, group, used)
        if group in groups:
            _set(catalog, f"{PREFIX}{group}", used, past.parent)
    if past.parent is not None and "parameters" in catalog:
        catalog.get("parameters").save(parameters)
    return changed


def _mixed_arms(groups: set[str], past: Past, catalog: CatalogProtocol) -> set[str]:
    """Return the other arms whose parameters the mixtures of these groups carry, today's and the parent's."""
    settings = past.settings
    now = [plain(catalog.load(f"{PREFIX}{group}")) for group in groups]
    return {arm for values in (*now, *map(settings.get, groups)) for arm in arms_of(values)}


def _given_to_arms(values: Any, flat: Mapping[str, Any]) -> Any:
    """Return a parameter group whose mixture carries what the command line gives to the arms that it names."""
    if not arms_of(values):
        return values
    mixture = []
    for each in values["mixture"]:
        arm, parameters = each.get("arm"), each.get("parameters")
        below = {k: v for k, v in _below(flat, str(arm)).items() if arm and belongs(arm, k)}
        told = {"parameters": _overlaid(parameters, below)} if below and parameters else {}
        mixture.append({**each, **told})
    return {**values, "mixture": mixture}


def _check_effect(
    key: str, value: Any, past: Past, groups: set[str], pipeline: Pipeline, arms: set[str]
) -> None:
    """Refuse by name a parameter of a stage that does not run, unless it says what was used anyway."""
    known = past.known
    if key == IMAGES:
        before = None if past.parent is None else past.parent.sources.get(RAW)
        effective = RAW in pipeline.inputs()
        same = before is not None and Path(str(value)).resolve() == Path(before)
        known[key] = before
    else:
        group = _group_of(key, groups | past.settings.keys())
        arm, _, own = key.partition(".")
        effective = (group in groups and group not in past.inherited) or (
            arm in arms and belongs(arm, own)
        )
        same = key in known and _same(known[key], value)
    if effective or same:
        return
    used = past.parent is not None and known.get(key) is not None
    was = f", and run {past.parent.run} used {known[key]!r}" if past.parent and used else ""
    raise UserError(
        f"Parameter {key} = {value!r} would change nothing: the stage that reads it does not run{was}.",
        "run that stage too (a pipeline by name starts from raw images), or leave the parameter out.",
    )


def plain(value: Any) -> Any:
    """Return a parameter group as JSON holds it."""
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _set(catalog: CatalogProtocol, name: str, values: Any, parent: Manifest | None) -> None:
    """Put other values in the place of a parameter group, typed as it was."""
    current = catalog.load(name)
    try:
        typed = type(current).model_validate(values) if isinstance(current, BaseModel) else values
    except ValidationError as error:
        run = "an earlier run" if parent is None else f"run {parent.run}"
        raise UserError(
            f"The settings of {run} for {name.removeprefix(PREFIX)} are not valid here: "
            f"{error.errors()[0]['msg'].lower()}.",
            "run its stages again with this version.",
        ) from error
    catalog.get(name).save(typed)


def _group_of(key: str, groups: set[str]) -> str | None:
    """Return the longest group that a dotted key belongs to, or that lies below it."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (group := ".".join(parts[:length])) in groups:
            return group
    return None


def _below(given: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {
        key.removeprefix(f"{group}."): value
        for key, value in given.items()
        if key.startswith(f"{group}.")
    }


def _overlaid(values: Any, overlay: Mapping[str, Any]) -> Any:
    """Return nested values with some leaves replaced."""
    if not overlay:
        return values
    result = dict(values)
    for key, value in overlay.items():
        first, _, rest = key.partition(".")
        result[first] = _overlaid(result.get(first) or {}, {rest: value}) if rest else value
    return result


def _lookup(parameters: Mapping[str, Any], group: str) -> Any:
    value: Any = parameters
    for part in group.split("."):
        value = value.get(part, {}) if isinstance(value, Mapping) else {}
    return plain(value)


def _put(parameters: dict[str, Any], group: str, value: Any) -> None:
    *path, last = group.split(".")
    for part in path:
        parameters[part] = dict(parameters.get(part) or {})
        parameters = parameters[part]
    parameters[last] = value


def _same(first: Any, second: Any) -> bool:
    """Compare values as JSON does, tuples and lists alike."""
    return (
        fingerprint(_listed(first)) == fingerprint(_listed(second))
        or _number(first) == _number(second) is not None
    )


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple | list) else value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
