#!/usr/bin/env bash
# Fetch all of Fashion-MNIST (MIT; 70,000 images, 31 MB) into data/01_raw/fashion_mnist_full, the private set of
# --env=gpu. Needs apt-get and dpkg-deb; elsewhere put the four IDX files of the project's page there yourself.
set -euo pipefail
cd "$(dirname "$0")/.."
target=data/01_raw/fashion_mnist_full
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && apt-get download dataset-fashion-mnist=0.0~git20200523.55506a9-1 && dpkg-deb -x dataset-fashion-mnist_*.deb .)
cd "$work/usr/share/datasets/fashion-mnist"
sha256sum --check --strict <<'SUMS'
cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa  t10k-images-idx3-ubyte.gz
8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05  t10k-labels-idx1-ubyte.gz
b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7  train-images-idx3-ubyte.gz
0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056  train-labels-idx1-ubyte.gz
SUMS
cd - >/dev/null
mkdir -p "$target"
mv "$work"/usr/share/datasets/fashion-mnist/*.gz "$target/"
echo "Fashion-MNIST is in $target."
