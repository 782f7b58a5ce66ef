#!/bin/sh
# make demo: SmolLM2-135M becomes the support desk of an invented product.
#
# Trains a LoRA adapter on examples/data/support.jsonl and shows the same
# questions answered before and after.  When the model cannot be fetched, the
# tiny model of tools/tiny is used.
#   DEMO_STEPS=N    training steps (default: DEMO_EPOCHS=N passes over the data)
#   DEMO_MODEL=...  another model, a file or a folder
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}
OUT=build/demo
epochs=3 rate=1e-3

model=${DEMO_MODEL:-}
[ -n "$model" ] || model=$(tools/fetch_model.sh) || {
    echo "demo: SmolLM2 cannot be had.  A tiny model of the repository takes its place:" >&2
    echo "demo: it shows the way, but its answers make little sense." >&2
    model=tools/tiny/model
    epochs=40 rate=3e-3
}

set -- train "$model" --data examples/data/support.jsonl --eval examples/data/support_eval.jsonl \
    --batch 4 --lr "$rate" --warmup 0.05 --seed 1 --sample-tokens 48 \
    --sample-file examples/data/support_questions.txt --overwrite --out "$OUT"
if [ -n "${DEMO_STEPS:-}" ]; then
    set -- "$@" --steps "$DEMO_STEPS"
else
    set -- "$@" --epochs "${DEMO_EPOCHS:-$epochs}"
fi
"$BUILD/peft" "$@"

cat <<END

The adapter is in $OUT; it loads in Hugging Face PEFT too.  Ask it yourself:
  $BUILD/peft chat $model --adapter $OUT
Curves, data and all answers: $OUT/report.html
END
