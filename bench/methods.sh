#!/bin/sh
# make bench-methods: every method on the same data, and what that costs; writes
# the tables of docs/methods.md.  About an hour; BENCH_MODE=speed is the quick
# part whose figures need a quiet machine.
#   BENCH_MODE=quality|speed|all   BENCH_THREADS=N   BENCH_TASKS=sentiment,support
#   BENCH_METHODS=lora,dora,...    for quality
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}
DATA=build/models
MINILM=$DATA/minilm
REVIEWS=$DATA/reviews.txt

bench/fetch.sh
model=$(tools/fetch_model.sh)

run() {
    mode=$1
    shift
    python3 bench/methods.py "$mode" --peft "$BUILD/peft" --out build/bench --minilm $MINILM \
        --smollm2 "$model" --sentiment $REVIEWS --threads "${BENCH_THREADS:-1}" \
        --tasks "${BENCH_TASKS:-sentiment,support}" "$@"
}
case ${BENCH_MODE:-all} in
quality | all) run quality ${BENCH_METHODS:+--methods "$BENCH_METHODS"} ;;
esac
case ${BENCH_MODE:-all} in
speed | all) run speed ;;
esac
run write
