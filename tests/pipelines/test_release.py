"""A release as its user meets it: made of the last run, verified by whoever got it, refused where it breaks its policy."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from kedro.framework.startup import bootstrap_project

import datasets
from signers import Signer
from tckr.classifiers.models import load
from tckr.cli import run
from tckr.lineage import hash_files
from tckr.release.manifest import sha256_of

Done = subprocess.CompletedProcess[str]
DATA = Path("data/test")


def kedro(*arguments: str) -> Any:
    return CliRunner().invoke(run, ["--env=test", *arguments], obj=bootstrap_project(Path.cwd()))


def releases() -> list[Path]:
    return sorted((DATA / "09_release").glob("2*"))


def of_run(version: str, entry: str) -> Path:
    return DATA / entry / version / Path(entry).name


@pytest.fixture
def released(inside: Path, finished: Done) -> Path:
    """What the whole run left as its last stage, and named in its summary."""
    named = re.search(r"certificate +(\S+)/certificate.html", finished.stdout)
    assert named is not None, finished.stdout
    return Path(named[1])


def verified(folder: Path) -> Any:
    return kedro("--pipeline=verify_release", f"--params=release={folder}")


@pytest.mark.slow
def test_what_goes_out_is_what_was_attacked(released: Path, tmp_path: Path) -> None:
    assert sorted(one.name for one in released.iterdir()) == [
        *("README.md", "certificate.html", "certificate.json", "croissant.json", "manifest.json"),
        *("recycled_set", "student"),
    ]
    without_card = shutil.ignore_patterns("README.md")
    student = shutil.copytree(released / "student", tmp_path / "student", ignore=without_card)
    for folder, entry in {student: "student", released / "recycled_set": "recycled_set"}.items():
        assert hash_files(folder) == hash_files(of_run(released.name, f"07_model_output/{entry}"))
    opened = datasets.load_dataset(
        str(released / "recycled_set"), split="train", cache_dir=str(tmp_path)
    )
    assert len(opened) == 60
    assert load(released / "student")
    assert ModelCard.load(released / "student/README.md").data.eval_results
    described = json.loads((released / "croissant.json").read_text())
    assert described["distribution"][0]["sha256"] == sha256_of(
        released / described["distribution"][0]["contentUrl"]
    )
    withheld = json.loads((released / "certificate.json").read_text())["context"]["withheld"]
    assert [one["thing"] for one in withheld] == ["adapter"]
    assert "1,000 members or more" in withheld[0]["why"]


@pytest.mark.slow
def test_a_run_ends_with_its_release_and_names_the_certificate(
    released: Path, finished: Done
) -> None:
    certificate = json.loads((released / "certificate.json").read_text())
    made = certificate["governance"]["made"]

    assert released.parent == DATA / "09_release"
    assert made["run"] == made["release"] == released.name


@pytest.mark.slow
def test_an_earlier_run_is_released_later_and_a_broken_policy_does_not_spoil_a_run(
    released: Path,
) -> None:
    earlier = f"--params=parent={released.name}"
    done = kedro("--pipeline=release", earlier)
    assert done.exit_code == 0, done.output
    later = releases()[-1]
    made = json.loads((later / "certificate.json").read_text())["governance"]["made"]
    assert (made["release"], made["run"]) == (later.name, released.name)

    # The last stage of the whole loop, held to a policy that it breaks.
    last = ("--pipeline=knowledge_recycling", "--nodes=release.offer_release")
    kept = kedro(*last, f"{earlier},policy.use=external")
    assert kept.exit_code == 0, kept.output
    said = " ".join(kept.output.split())
    assert "none. The release breaks the policy external, clause largest_epsilon" in said
    assert releases()[-1] == later


@pytest.mark.slow
def test_nothing_private_is_in_a_release(released: Path, private_images: Path) -> None:
    run = released.name
    private = pd.read_parquet(of_run(run, "03_primary/images") / "data")
    captions = pd.read_parquet(of_run(run, "04_feature/captions.parquet"))["prompt"]
    pictures = [image["bytes"] for image in private["image"]]
    report = json.loads(of_run(run, "08_reporting/ingestion_report.json").read_text())
    secrets = [
        *private["image_id"],
        *(hashlib.sha256(picture).hexdigest() for picture in pictures),
        *(caption for caption in set(captions) if len(caption) > 8),
        *(str(private_images), str(Path.cwd()), str(Path.home()), report["data_hash"]),
    ]
    assert len(secrets) > 2 * len(private)
    recycled = pq.read_table(next((released / "recycled_set/data").glob("*.parquet")))
    shown = {image["bytes"] for image in recycled["image"].to_pylist()}
    texts = [
        str(column.to_pylist())
        for name, column in zip(recycled.column_names, recycled.columns, strict=True)
        if name != "image"
    ]

    assert not shown & set(pictures)
    assert "prompt" not in recycled.column_names
    for file in (one for one in released.rglob("*") if one.is_file()):
        content = file.read_bytes()
        found = [secret for secret in secrets if secret.encode() in content]
        assert not found, f"{file.name}: {found[:3]}"
        assert not any(picture in content for picture in pictures), file.name
    assert not [secret for secret in secrets for text in texts if secret in text]


@pytest.mark.slow
def test_an_owners_key_signs_it_and_whoever_has_the_certificate_knows(
    released: Path, tmp_path: Path
) -> None:
    pytest.importorskip("c2pa", reason="the extra tckr[signing] is not installed")
    owner, other = (Signer(tmp_path / name, name) for name in ("owner", "other"))
    key = f"signing.certificate={owner.certificate},signing.key={owner.key}"
    done = kedro("--pipeline=release", f"--params=parent={released.name},{key}")
    assert done.exit_code == 0, done.output
    signed = f"release={releases()[-1]}"

    assert "signed by owner (Clinic)" in kedro(
        "--pipeline=verify_release", f"--params={signed},signer={owner.issuer}"
    ).output.replace("\n", " ")
    refused = kedro("--pipeline=verify_release", f"--params={signed},signer={other.issuer}")
    assert "does not vouch for" in " ".join(refused.output.split())
    half = kedro("--pipeline=release", f"--params=parent={released.name},signing.key={owner.key}")
    assert "signing.certificate is missing" in half.output


@pytest.mark.slow
def test_whoever_got_it_verifies_it(released: Path, tmp_path: Path) -> None:
    done = verified(released)
    assert done.exit_code == 0, done.output
    digest = hashlib.sha256((released / "manifest.json").read_bytes()).hexdigest()
    assert digest in done.output
    assert "needs private data" in done.output

    copy = tmp_path / "copy"
    shutil.copytree(released, copy)
    weights = copy / "student/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (copy / "README.md").unlink()
    table = next((copy / "recycled_set/data").glob("*.parquet"))
    pq.write_table(pq.read_table(table).slice(1), table)
    certificate = copy / "certificate.json"
    certificate.write_text(certificate.read_text().replace('"n_test": 30', '"n_test": 3000'))
    refused = verified(copy)

    assert refused.exit_code == 1
    said = " ".join(refused.output.split())
    for words in (
        "student/model.safetensors was changed",
        "README.md is missing",
        f"recycled_set/data/{table.name} was changed",
        "certificate.json was changed",
        "use.accuracy is not what follows",
        "data.images is not what follows",
    ):
        assert words in said, words


@pytest.mark.slow
def test_a_broken_policy_is_named_by_its_clause_and_leaves_no_folder(
    inside: Path, finished: Done
) -> None:
    before = releases()
    refused = kedro("--pipeline=release", "--params=policy.use=external")

    assert refused.exit_code == 1
    assert "breaks the policy external, clause largest_epsilon" in refused.output
    assert before == releases()
    unknown = kedro("--pipeline=release", "--params=policy.use=ours")
    assert "There is no policy ours" in unknown.output
    assert "No release is named" in kedro("--pipeline=verify_release").output
