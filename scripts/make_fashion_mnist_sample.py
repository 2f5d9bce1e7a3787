"""Make the default private set: a stratified sample of Fashion-MNIST as Parquet of PNGs.

    python scripts/make_fashion_mnist_sample.py /usr/share/datasets/fashion-mnist data/01_raw/fashion_mnist

The first folder holds the four IDX files, as Debian's package `dataset-fashion-mnist` installs them. The same files
and library versions give the same bytes.
"""

import argparse
import hashlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tckr.images.options import IngestionOptions
from tckr.images.raw import RawImage
from tckr.images.readers import read

logger = logging.getLogger(__name__)

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
PER_CLASS = {"train": 650, "test": 200}
SEED = 20171
# Tells the `datasets` library that the structs are images; our reader uses it too.
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"dtype": "string", "_type": "Value"},
    "split": {"dtype": "string", "_type": "Value"},
}


def main() -> None:
    """Read the four IDX files, draw the sample, write one Parquet file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder of the four IDX files")
    parser.add_argument(
        "target", type=Path, help="folder to write fashion_mnist_sample.parquet into"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = draw(list(read(arguments.source, IngestionOptions()).images))
    target = arguments.target / "fashion_mnist_sample.parquet"
    write(rows, target)
    logger.info("%s: %d images, %.2f MB", target, len(rows), target.stat().st_size / 1e6)


def draw(images: list[RawImage]) -> list[tuple[bytes, str, str]]:
    """Draw distinct images, the same number of every class; returns (PNG, class name, split)."""
    rng = np.random.default_rng(SEED)
    seen: set[bytes] = set()
    rows = []
    for split, given in (("test", "test"), ("train", "pool")):
        for number, name in enumerate(CLASSES):
            candidates = [
                image for image in images if image.split == given and image.label == str(number)
            ]
            taken = 0
            for index in rng.permutation(len(candidates)):
                pixels = np.asarray(candidates[index].content)
                digest = hashlib.sha256(pixels.tobytes()).digest()
                if digest in seen:
                    continue
                seen.add(digest)
                rows.append((png(pixels), name, split))
                taken += 1
                if taken == PER_CLASS[split]:
                    break
    return sorted(rows, key=lambda row: (row[2] == "test", hashlib.sha256(row[0]).digest()))


def png(pixels: np.ndarray) -> bytes:
    """Smallest grey PNG of uint8 pixels (H, W)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def write(rows: list[tuple[bytes, str, str]], target: Path) -> None:
    """Write the rows as Parquet with the feature types of the `datasets` library."""
    encoded, labels, splits = zip(*rows, strict=True)
    image = pa.StructArray.from_arrays(
        [pa.array(encoded, pa.binary()), pa.nulls(len(rows), pa.string())], names=["bytes", "path"]
    )
    table = pa.table({"image": image, "label": pa.array(labels), "split": pa.array(splits)})
    table = table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Plain encoding: a dictionary of 8,500 distinct PNGs would only cost.
    pq.write_table(
        table, target, compression="zstd", compression_level=19, use_dictionary=["label", "split"]
    )


if __name__ == "__main__":
    main()
