#!/bin/sh
# make demo: SmolLM2-135M becomes the support desk of an invented product.
#
# Trains a LoRA adapter on examples/data/support.jsonl and shows the same
# questions answered before and after.  When the model cannot be fetched, the
# tiny model of tools/tiny is used, with the settings that suit it.
#   DEMO_STEPS=N    training steps, to make it short
#   DEMO_MODEL=...  another model, a file or a folder
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}
OUT=build/demo
settings="--batch 4 --lr 1e-3 --epochs 3 --warmup 0.05 --seed 1 --sample-tokens 48
    --sample-file examples/data/support_questions.txt"

model=${DEMO_MODEL:-}
[ -n "$model" ] || model=$(tools/fetch_model.sh) || {
    echo "demo: SmolLM2 cannot be had, so a tiny model of this repository takes its place." >&2
    echo "demo: it knows a few simple sentences, and learns the new answers by heart." >&2
    model=tools/tiny/model
    settings=$(cat tools/tiny/demo_settings)
}
[ -z "${DEMO_STEPS:-}" ] ||
    settings=$(echo "$settings" | sed "s/--epochs [0-9]*/--steps $DEMO_STEPS/")

# shellcheck disable=SC2086 # the settings are words
"$BUILD/peft" train "$model" --data examples/data/support.jsonl \
    --eval examples/data/support_eval.jsonl $settings --overwrite --out "$OUT"

cat <<END

The adapter is in $OUT; it loads in Hugging Face PEFT too.  Ask it yourself:
  $BUILD/peft chat $model --adapter $OUT
Curves, data and all answers: $OUT/report.html
END
