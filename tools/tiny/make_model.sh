#!/bin/sh
# Makes tools/tiny/model, the tiny model that tests and demo use without network.
#
# make_model.py writes a tokenizer and random weights; libpeft trains them on
# corpus.jsonl and stores them as bf16.  Needs `make` first.  About 10 minutes.
#   THREADS=N   worker threads (default 2)
set -eu
cd "$(dirname "$0")/../.."
PEFT=${BUILD:-build/release}/peft
WORK=build/tiny

rm -rf "$WORK"
mkdir -p "$WORK"
python3 tools/tiny/make_model.py "$WORK/init"
"$PEFT" train "$WORK/init" --data tools/tiny/corpus.jsonl --method full --batch 16 --epochs 24 \
    --lr 2e-3 --warmup 0.05 --recompute none --seed 1 --threads "${THREADS:-2}" \
    --overwrite --out "$WORK/trained"
"$PEFT" merge "$WORK/trained" --dtype bf16 --out "$WORK/model"

mkdir -p tools/tiny/model
for f in config.json model.safetensors tokenizer.json tokenizer_config.json; do
    cp "$WORK/model/$f" tools/tiny/model/
done
ls -l tools/tiny/model
