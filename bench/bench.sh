#!/bin/sh
# make bench: libpeft against PyTorch + transformers + PEFT, and its tokenizers
# against the package `tokenizers`; then memory and speed of training on fewer bits.
#
# Both train the same model, adapter and batches, float32, with the same number
# of threads, one after the other in turns.  The peer lives in its own
# environment, build/peer-venv (3 GB, fetched once).
#   BENCH_PYTHON=...  a python that has torch, transformers and peft already
#   BENCH_THREADS=N BENCH_STEPS=N BENCH_ROUNDS=N
#   BENCH_MEGABYTES=N    of text for the tokenizers
#   BENCH_ONLY=encode|adapters|qlora|train
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}

python=${BENCH_PYTHON:-}
[ -n "$python" ] || python=$(tools/peer.sh) || {
    echo "bench: the peer cannot be installed; libpeft runs alone" >&2
    python=
}

if [ "${BENCH_ONLY:-encode}" = encode ]; then
    python3 bench/encode.py --program "$BUILD/bench_encode" --python "$python" --out build/bench \
        --megabytes "${BENCH_MEGABYTES:-20}" --rounds "${BENCH_ROUNDS:-2}"
    [ -z "${BENCH_ONLY:-}" ] || exit 0
fi

# Many adapters on one model: what switching, holding and mixing them costs.
if [ "${BENCH_ONLY:-adapters}" = adapters ]; then
    mkdir -p build/bench
    "$BUILD/bench_adapters" "$(tools/fetch_model.sh)" build/bench/adapter "${BENCH_ADAPTERS:-100}"
    [ -z "${BENCH_ONLY:-}" ] || exit 0
fi

# The peer gets the very weights that libpeft reads, as floats.
model=$(tools/fetch_model.sh)
folder=build/bench/model-f32
if [ -n "$python" ] && [ ! -e $folder/config.json ]; then
    mkdir -p build/bench
    "$BUILD/peft" merge "$model" --out $folder --dtype f32
fi
threads=${BENCH_THREADS:-$(getconf _NPROCESSORS_ONLN)}
if [ "${BENCH_ONLY:-train}" = train ]; then
    python3 bench/bench.py --peft "$BUILD/peft" --model "$model" --folder $folder \
        --python "$python" --out build/bench --threads "$threads" \
        --steps "${BENCH_STEPS:-6}" --rounds "${BENCH_ROUNDS:-2}"
    [ -z "${BENCH_ONLY:-}" ] || exit 0
fi
if [ ! -e $folder/config.json ]; then
    mkdir -p build/bench
    "$BUILD/peft" convert "$model" --out $folder --dtype f32
fi
exec python3 bench/qlora.py --peft "$BUILD/peft" --model "$model" --folder $folder \
    --threads "$threads"
