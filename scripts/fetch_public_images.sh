#!/usr/bin/env bash
# Fetch the drawings under the foundation models into data/01_raw/public (needs apt-get, dpkg-deb and npm).
# The photographs and sentences are not in a package registry: data/01_raw/public/README.md says what to put there.
set -euo pipefail
cd "$(dirname "$0")/.."
target=data/01_raw/public
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$target"

(cd "$work" && apt-get download openclipart-png=1:0.18+dfsg-19 && dpkg-deb -x openclipart-png_*.deb clip_art)
for style in google twitter; do
  (cd "$work" && npm pack --silent "emoji-datasource-$style@16.0.0" && mkdir "$style" &&
    tar xzf "emoji-datasource-$style-16.0.0.tgz" -C "$style")
done
(cd "$work" && sha256sum --check --strict) <<'SUMS'
f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02  openclipart-png_1%3a0.18+dfsg-19_all.deb
fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438  emoji-datasource-google-16.0.0.tgz
f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877  emoji-datasource-twitter-16.0.0.tgz
SUMS

rm -rf "$target/openclipart" "$target/emoji"
mv "$work/clip_art/usr/share/openclipart/png" "$target/openclipart"
mkdir -p "$target/emoji/img"
mv "$work/google/package/emoji.json" "$work/google/package/LICENSE" "$target/emoji/"
for style in google twitter; do
  mkdir "$target/emoji/img/$style"
  mv "$work/$style/package/img/$style/64" "$target/emoji/img/$style/"
done
echo "Drawings are in $target."
