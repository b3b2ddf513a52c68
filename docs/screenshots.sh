#!/usr/bin/env bash
# Makes the pictures in docs/images/ anew, or those that are named (page, testnet, simulate), of what the program shows now.
# Needs Chromium, Python and a font: apt-get install chromium chromium-driver python3-venv fonts-dejavu-core
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --locked --release -p dht-cli

selenium=$(sed -n 's/^const SELENIUM.*"\(.*\)";$/\1/p' cli/tests/page/main.rs)
pillow=pillow==12.0.0
environment=$target/venv-screenshots-$selenium
if [ ! -d "$environment" ]; then
    python3 -m venv "$environment.unfinished"
    "$environment.unfinished/bin/python3" -m pip install --quiet --disable-pip-version-check "$selenium" "$pillow" pyte==0.8.2
    mv "$environment.unfinished" "$environment"
fi
"$environment/bin/python3" -B docs/screenshots.py "$target/release/dht" "$@"
