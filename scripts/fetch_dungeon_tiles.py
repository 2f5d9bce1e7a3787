"""Fetch the tiles of Dungeon Crawl Stone Soup as a private set in colour: a folder a class of 32 x 32 PNGs.

    python scripts/fetch_dungeon_tiles.py data/01_raw/dungeon_tiles     (needs apt-get with Debian's keyring)
    make run PARAMS=images=data/01_raw/dungeon_tiles,ingestion.size=32

Source: Debian's source package crawl 2:0.28.0-1.1, folder source/rltiles; a downloaded crawl_0.28.0.orig.tar.xz can be
given with --archive. Licence: Debian's copyright file and the upstream LICENSE name the whole GPL-2+, and of its parts
"Public Domain|CC0: most of tiles", without a list of which. The tiles stay out of this repository.

Many tiles are recoloured or slightly changed copies of another. A copy of a member in the holdout would blur what
membership means, so of look-alikes the first by name is kept.
"""

import argparse
import hashlib
import logging
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

logger = logging.getLogger(__name__)

VERSION = "2:0.28.0-1.1"
ARCHIVE = "crawl_0.28.0.orig.tar.xz"
SHA256 = "5a6be168f8888b84bdb199184ca20bd8636f77ba7e9e0124ebee8850092f2f47"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

CLASSES: dict[str, tuple[str, ...]] = {
    "armour": ("item/armour",),
    "clothing": ("player/body", "player/legs", "player/head", "player/cloak", "player/barding"),
    "creature": (
        *("mon/animals", "mon/humanoids", "mon/demihumanoids", "mon/unique", "mon/demons"),
        *("mon/dragons", "mon/draco", "mon/aberrations", "mon/undead", "mon/nonliving"),
        *("mon/holy", "mon/amorphous", "mon/eyes", "mon/fungi_plants"),
    ),
    "floor": ("dngn/floor", "dngn/water"),
    "gateway": ("dngn/gateways", "dngn/altars", "dngn/doors", "dngn/statues", "dngn/shops"),
    "held": ("player/hand1", "player/hand2"),
    "spell": ("gui/spells", "gui/invocations", "gui/abilities"),
    "treasure": (
        *("item/ring", "item/amulet", "item/potion", "item/misc"),
        *("item/wand", "item/scroll", "item/book", "item/food"),
    ),
    "wall": ("dngn/wall",),
    "weapon": ("item/weapon", "item/staff", "item/rod"),
}
# Marks laid over another tile, not pictures of a thing.
MARKS = ("/brands/", "/chunk_brands/", "/uncollected_runes/", "/i-", "overlay", "shadow_")
MOST = 400  # of a class: there are twice as many creatures as of the next class

SIZE = 32
NEUTRAL = (128, 128, 128, 255)
COVERED = 0.06  # least opaque share of a tile ...
PAVED = 0.6  # ... and of one that should fill its square; the rest are edges and waves
SAME_SHAPE = 0.95  # correlation of grey values, half size: above it two tiles differ in colour only
SAME_COLOUR = (
    8.0  # root mean square difference, half size, of 255: below it they differ in detail only
)


def main() -> None:
    """Fetch, check, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("target", type=Path, help="new folder to write a folder a class into")
    parser.add_argument("--archive", type=Path, help=f"a downloaded {ARCHIVE}")
    arguments = parser.parse_args()
    if arguments.target.exists():
        parser.error(f"{arguments.target} exists; remove it first or name another folder")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        archive = arguments.archive or fetch(Path(folder))
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            parser.error(f"{archive} has SHA-256 {found}, not {SHA256}")
        tiles = distinct(read(archive))
    for label, chosen in sample(tiles).items():
        place = arguments.target / label
        place.mkdir(parents=True)
        for name, pixels in chosen:
            Image.fromarray(pixels).save(place / f"{name}.png", optimize=True)
        logger.info("%-9s %4d", label, len(chosen))


def fetch(folder: Path) -> Path:
    """Download the source archive into `folder` with apt-get, whose own lists stay as they are."""
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    sources = folder / "source.list"
    # the mirror that this machine takes its packages from, asked for sources
    sites = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Codename: bookworm"],  # noqa: S607
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    if not sites:
        raise SystemExit(
            f"apt-get knows no mirror of Debian bookworm; download {ARCHIVE} and give it with --archive."
        )
    sources.write_text(f"deb-src [signed-by={KEYRING}] {sites[0]} bookworm main\n")
    apt = [
        "apt-get",
        "-qq",
        *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
        *("-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={folder}"),
    ]
    for command in (["update"], ["source", "--download-only", "--tar-only", f"crawl={VERSION}"]):
        subprocess.run([*apt, *command], cwd=folder, check=True)  # noqa: S603
    return folder / ARCHIVE


def read(archive: Path) -> list[tuple[str, str, np.ndarray]]:
    """Read every tile of a class; returns (class, name, uint8 (32, 32, 3)), in the order of classes and names."""
    label_of = {f"{folder}/": label for label, folders in CLASSES.items() for folder in folders}
    tiles = []
    with tarfile.open(archive) as files:
        for member in files:
            path = PurePosixPath(member.name)
            if path.suffix != ".png" or path.name.startswith(".") or "rltiles" not in path.parts:
                continue
            inside = "/".join(path.parts[path.parts.index("rltiles") + 1 :])
            label = next((label_of[key] for key in label_of if inside.startswith(key)), None)
            content = files.extractfile(member)
            if label is None or content is None or any(mark in inside for mark in MARKS):
                continue
            pixels, covered = flatten(Image.open(content))
            if covered >= (PAVED if label in {"floor", "wall"} else COVERED):
                tiles.append((label, inside.removesuffix(".png").replace("/", "-"), pixels))
    return sorted(tiles, key=lambda tile: tile[:2])


def flatten(image: Image.Image) -> tuple[np.ndarray, float]:
    """Lay a tile centred on neutral grey; returns uint8 (32, 32, 3) and the share of opaque pixels."""
    drawing = image.convert("RGBA")
    drawing.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)  # a few are 48 pixels tall
    layer = Image.new("RGBA", (SIZE, SIZE))
    layer.paste(drawing, ((SIZE - drawing.width) // 2, (SIZE - drawing.height) // 2))
    ground = Image.new("RGBA", (SIZE, SIZE), NEUTRAL)
    ground.alpha_composite(layer)
    return np.asarray(ground.convert("RGB")), float((np.asarray(layer)[..., 3] >= 128).mean())


def distinct(tiles: list[tuple[str, str, np.ndarray]]) -> list[tuple[str, str, np.ndarray]]:
    """Keep the first of every group of look-alikes, across classes."""
    half = np.stack([pixels for _, _, pixels in tiles]).astype(np.float32)
    half = half.reshape(len(tiles), SIZE // 2, 2, SIZE // 2, 2, 3).mean((2, 4))
    shape = half.mean(-1).reshape(len(tiles), -1)
    shape -= shape.mean(1, keepdims=True)
    shape /= np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), 1e-6)
    colour = half.reshape(len(tiles), -1)
    kept: list[int] = []
    for index in range(len(tiles)):
        alike = shape[kept] @ shape[index] > SAME_SHAPE
        close = ((colour[kept] - colour[index]) ** 2).mean(1) < SAME_COLOUR**2
        if not (alike | close).any():
            kept.append(index)
    return [tiles[index] for index in kept]


def sample(
    tiles: list[tuple[str, str, np.ndarray]],
) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Take at most `MOST` of a class, evenly along the names."""
    chosen = {}
    for label in CLASSES:
        own = [(name, pixels) for kind, name, pixels in tiles if kind == label]
        places = np.linspace(0, len(own) - 1, min(MOST, len(own))).round().astype(int)
        chosen[label] = [own[place] for place in places]
    return chosen


if __name__ == "__main__":
    main()
