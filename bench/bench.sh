#!/bin/sh
# make bench: libpeft beside PyTorch + transformers + PEFT, the package
# `tokenizers` and llama.cpp, row by row of bench/rows.py: the same model,
# data, adapter, batch, threads and steps, in turns.
#
# The peers live in environments of their own, build/peer-venv (3 GB, fetched
# once) and build/llama-venv.
#   BENCH_ONLY=lora,full     rows; the others keep their figures in result.json
#   BENCH_PYTHON=...         a python that has torch, transformers and peft already
#   BENCH_LLAMA=...          one that has llama-cpp-python, or xllamacpp
#   BENCH_THREADS=N BENCH_STEPS=N    steps that count, after a first one
#   BENCH_MEGABYTES=N        of text for the tokenizers
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}

python=${BENCH_PYTHON:-}
[ -n "$python" ] || python=$(tools/peer.sh) || {
    echo "bench: the peer cannot be installed; libpeft runs alone" >&2
    python=
}
# llama-cpp-python is built from source, with this processor's instructions; where that
# fails, the wheel of xllamacpp has AVX2.
llama=${BENCH_LLAMA:-$PWD/build/llama-venv/bin/python}
if [ -z "${BENCH_LLAMA:-}" ] && [ ! -e build/llama-venv/ready ]; then
    python3 -m venv build/llama-venv
    build/llama-venv/bin/pip install --quiet --disable-pip-version-check llama-cpp-python >&2 ||
        build/llama-venv/bin/pip install --quiet --disable-pip-version-check xllamacpp >&2 ||
        llama=
    [ -z "$llama" ] || touch build/llama-venv/ready
fi

bench/fetch.sh
exec python3 bench/bench.py --build "$BUILD" --model "$(tools/fetch_model.sh)" \
    --python "$python" --llama "$llama" --only "${BENCH_ONLY:-}" \
    --threads "${BENCH_THREADS:-$(getconf _NPROCESSORS_ONLN)}" --steps "${BENCH_STEPS:-4}" \
    --megabytes "${BENCH_MEGABYTES:-20}"
