"""The audit on image tables: who was in which training set, what of them is attacked, and the attacks on every model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tckr.audit.options import AuditOptions, Scope
from tckr.engine.device import best
from tckr.engine.seeds import derive
from tckr.images.canaries import is_duplicated, is_first
from tckr.images.tables import images_and_labels, of_split, owners

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from tckr.audit.things import ModelAudit
    from tckr.synthesizers.private_set import SyntheticSet

SPLITS = ("members", "holdout")
REFERENCE = "validation"  # of the same distribution, neither trained on nor audited
RELEASED = "released"  # the synthetic set that is released
TEACHER = "teacher"
Tensors = dict[str, Any]


def audited_images(images: pd.DataFrame) -> pd.DataFrame:
    """Return members and holdout, in the table's own order."""
    return of_split(images, *SPLITS)


def is_member(audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Return True for members, (N,)."""
    return (audited["split"] == "members").to_numpy()


def people(audited: pd.DataFrame) -> "NDArray[np.int64] | None":
    """Return the person behind each audited image, int64 (N,); None where every image is of a person of its own.

    >>> people(pd.DataFrame({"group": [4, 9, 4]})), people(pd.DataFrame({"group": [4, 9]}))
    (array([4, 9, 4]), None)
    """
    found = owners(audited)
    return None if found is None or audited["group"].is_unique else found


def draw_memberships(images: pd.DataFrame, n_shadows: int, seed: int) -> pd.DataFrame:
    """Decide which audited image is in which shadow's training set; all images of a person are in the same.

    Returns:
        One row per member or holdout image: image_id, is_member, and one boolean column per shadow.
    """
    from tckr.audit.membership import membership_matrix

    audited = audited_images(images)
    drawn = membership_matrix(
        len(audited), n_shadows, 0.5, derive(seed, "membership"), people(audited)
    )
    shadows = {f"shadow_{i}": row for i, row in enumerate(drawn)}
    return pd.DataFrame(
        {"image_id": audited["image_id"].to_numpy(), "is_member": is_member(audited), **shadows}
    )


def memberships(table: pd.DataFrame, audited: pd.DataFrame) -> "NDArray[np.bool_]":
    """Take the matrix bool (S, N) out of its table, for these images in their order.

    Raises:
        KeyError: the table was made for other images.
    """
    rows = table.set_index("image_id").loc[audited["image_id"]]
    columns = [column for column in rows if column.startswith("shadow_")]
    # A copy: pandas returns read-only views.
    return np.array(rows[columns].to_numpy(dtype=bool).T, order="C")


def as_tensors(arrays: "Mapping[str, NDArray[Any]]") -> Tensors:
    """Return arrays as the catalog keeps them."""
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def as_arrays(tensors: Mapping[str, Any]) -> "dict[str, NDArray[Any]]":
    """Return arrays as the attacks read them."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def synthetic_sets(stored: "pd.DataFrame | Tensors") -> "dict[str, SyntheticSet]":
    """Return the synthetic sets by name out of an image table, which is the released one, or out of named tensors."""
    from tckr.synthesizers.private_set import SyntheticSet

    if isinstance(stored, pd.DataFrame):
        return {RELEASED: SyntheticSet(*images_and_labels(stored))}
    names = dict.fromkeys(name.split(".")[0] for name in stored)
    return {n: SyntheticSet(stored[f"{n}.images"], stored[f"{n}.labels"]) for n in names}


def queried_images(images: pd.DataFrame, options: AuditOptions, seed: int) -> pd.DataFrame:
    """Return as many members as holdout images, drawn by seed, and the reference.

    Duplicated canaries come on top, one copy of each; all of their copies where all images are asked about.
    """
    parts = []
    for split in SPLITS:
        every = of_split(images, split)
        if options.asked is None:
            parts.append(every)
            continue
        canary = is_duplicated(every)
        own = np.flatnonzero(~canary)
        random = np.random.default_rng(derive(seed, "asked", split))
        chosen = own[random.permutation(len(own))[: options.asked]]
        planted = np.flatnonzero(canary & is_first(every))
        parts.append(every.iloc[np.sort(np.concatenate([chosen, planted]))])
    return pd.concat([*parts, of_split(images, REFERENCE)])


def queried_rows(
    audited: pd.DataFrame, images: pd.DataFrame, options: AuditOptions, seed: int
) -> "NDArray[np.int64]":
    """Return the rows, among the audited images, about which generator and prompts are queried: int64 (n,)."""
    chosen = queried_images(images, options, seed)["image_id"]
    return np.flatnonzero(audited["image_id"].isin(chosen))


def image_features(options: AuditOptions, *images: "Tensor") -> "list[NDArray[np.float32]]":
    """Features (N, D) of images, uint8 (N, C, H, W) each, by the encoder that the audit names."""
    from tckr.text.clip import image_embeddings, load_clip

    clip = load_clip(options.release.encoder, best())
    return [image_embeddings(clip, some).numpy() for some in images]


def pixel_proximity(
    audited: "tuple[Tensor, Tensor]",
    released: "tuple[Tensor, Tensor]",
    reference: "tuple[Tensor, Tensor]",
    neighbours: int,
) -> "dict[str, NDArray[Any]]":
    """How near the released images come in pixels, within the class: what an encoder cannot tell apart may lie there.

    Each is a pair of images, uint8 (N, C, H, W), and labels (N,).
    """
    from tckr.attacks.nearest_neighbour import PixelRows, proximity_within

    def rows(images: "Tensor") -> PixelRows:
        return PixelRows(images.numpy())

    classes = (audited[1].numpy(), released[1].numpy(), reference[1].numpy())
    found = proximity_within(
        rows(audited[0]),
        rows(released[0]),
        rows(reference[0]),
        classes,
        neighbours,
    )
    return {f"{name}_pixels": values for name, values in found.items()}


def with_classes(features: "NDArray[np.float32]", audited: pd.DataFrame) -> "NDArray[np.float32]":
    """Return the features (N, D) of images with their classes beside them, one column for each."""
    classes = np.eye(int(audited["label"].max()) + 1, dtype=np.float32)[audited["label"]]
    return np.hstack([features, classes])


def attack_models(
    accuracies: Mapping[str, float | None],
    audited: pd.DataFrame,
    target_scores: Mapping[str, Any],
    shadow_scores: Mapping[str, Any],
    membership_table: pd.DataFrame,
    features: "NDArray[np.float32]",
    options: AuditOptions,
    scope: Scope,
    students: Mapping[str, Mapping[str, Any]],
    note: str = "",
) -> "dict[str, ModelAudit]":
    """Attack every model of `accuracies` (percent; None: nobody uses it as a classifier); see `tckr.audit.audit`.

    `students` says what each was trained on (`StudentConfig`); a model that is not there is a teacher. `note` is what else has to
    be said of the students' shadows.
    """
    from tckr.audit.audit import audit

    inside = memberships(membership_table, audited)
    targets, shadows = as_arrays(target_scores), as_arrays(shadow_scores)
    features = with_classes(features, audited)
    # The canaries' classes are wrong on purpose: what an attacker would give for theirs.
    canary = audited["canary"].to_numpy(dtype=bool) if "canary" in audited else None
    return {
        model: audit(
            targets[model],
            shadows[model],
            inside,
            is_member(audited),
            accuracy_percent=accuracy,
            options=options,
            scope=scope if model in students else "classifier",
            labels=students[model]["labels"] if model in students else None,
            note=note if model in students else "",
            features=features,
            canary=canary,
            clusters=people(audited),
            classes=None if "class_name" not in audited else audited["class_name"].to_numpy(object),
        )
        for model, accuracy in accuracies.items()
    }
