#!/bin/sh
# Prints a python that has torch, transformers and peft: that of the environment
# build/peer-venv, which it makes once (3 GB; with PIP_EXTRA_INDEX_URL naming an
# index of PyTorch's builds for processors only, a third of it).
#   tools/peer.sh [PACKAGE ...]    further packages; fails when one cannot be had
set -eu
cd "$(dirname "$0")/.."
VENV=build/peer-venv

if [ ! -e $VENV/ready ]; then
    echo "peer: installing torch, transformers and peft into $VENV" >&2
    python3 -m venv $VENV >&2
    $VENV/bin/pip install --quiet --disable-pip-version-check torch transformers peft >&2
    touch $VENV/ready
fi
[ $# -eq 0 ] || $VENV/bin/pip install --quiet --disable-pip-version-check "$@" >&2
echo "$PWD/$VENV/bin/python"
