#!/bin/sh
# make interop: every adapter method both ways between libpeft and Hugging Face
# PEFT, and text of llama.cpp from what we merge and quantise.  Sets up its own Python.
#   INTEROP_PYTHON=...    a python that has torch, transformers and peft already
#   INTEROP_LLAMACPP=...  one that has xllamacpp and numpy; "none" leaves it out
#   INTEROP_MODEL=...     a GGUF model beside the tiny ones (SmolLM2 by default,
#                         when it can be fetched); "none" leaves it out
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build/release}
OUT=build/interop
mkdir -p $OUT
failed=0

python=${INTEROP_PYTHON:-}
[ -n "$python" ] || python=$(tools/peer.sh) || {
    echo "interop: torch, transformers and peft cannot be installed" >&2
    exit 1
}

model=${INTEROP_MODEL:-}
[ -n "$model" ] || model=$(tools/fetch_model.sh) || model=none
[ "$model" != none ] || echo "skip SmolLM2: it cannot be fetched, or INTEROP_MODEL=none"

if [ "$model" = none ]; then "$python" tests/interop/adapters.py || failed=1
else "$python" tests/interop/adapters.py --model "$model" || failed=1
fi

"$python" tests/interop/ranks.py || failed=1

# Types chosen for each matrix: the folder in transformers, the file in llama.cpp.
dynamic=
if [ "$model" != none ] && { [ -n "${INTEROP_PYTHON:-}" ] ||
        tools/peer.sh bitsandbytes >/dev/null 2>$OUT/bitsandbytes.log; } &&
        "$python" -c "import bitsandbytes" 2>/dev/null; then
    dynamic=$OUT/dynamic.gguf
    "$python" tests/interop/quantised.py "$model" $dynamic || failed=1
    [ -f $dynamic ] || dynamic=
else
    echo "skip chosen types: there is no model, or bitsandbytes cannot be installed"
fi

llama=${INTEROP_LLAMACPP:-}
[ -n "$llama" ] || llama=$(tools/peer.sh xllamacpp numpy 2>$OUT/llamacpp.log) || llama=none
if [ "$llama" = none ]; then
    echo "skip llama.cpp: xllamacpp cannot be installed, or INTEROP_LLAMACPP=none"
    tail -n 1 $OUT/llamacpp.log 2>/dev/null || true
elif [ "$model" = none ]; then
    echo "skip llama.cpp: there is no model with a tokenizer"
else
    "$BUILD/peft" train "$model" --data examples/data/support.jsonl --steps 8 --lr 1e-3 \
        --quiet --overwrite --out $OUT/run
    "$BUILD/peft" merge "$model" --adapter $OUT/run --quiet --out $OUT/merged.gguf
    "$llama" tests/interop/llamacpp.py "$model" $OUT/merged.gguf $dynamic || failed=1
fi
exit $failed
