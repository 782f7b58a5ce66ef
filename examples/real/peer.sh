#!/bin/sh
# peer.sh [headlines|support|answers|summaries|translate ...]: the runs of headlines.sh and texts.sh again by
# PyTorch + PEFT with the same rows and budget (peer.py says how), all of them measured by `peft eval`.
# PEER_PYTHON is a python with torch, transformers and peft; without it one is made in build/peer (6 GB).
. "$(dirname "$0")/common.sh"
PYTHON=${PEER_PYTHON:-build/peer/bin/python}
HF=$W/smollm2-hf
if [ ! -x "$PYTHON" ]; then
    python3 -m venv build/peer
    build/peer/bin/pip install --quiet torch transformers peft accelerate
fi
[ -d "$HF" ] || $PEFT convert $SMOLLM2 --out "$HF" --dtype f32
twins() { # BASE RUN ROWS
    for how in usual same; do
        [ -f "$W/$2-torch-$how/peer.json" ] ||
            "$PYTHON" examples/real/peer.py "$1" "$W/$2" "$W/$3" "$W/$2-torch-$how" $how
    done
}
versus() { # MODEL RUN ROWS OPTIONS...: each of the two by itself, since a table's best is held against the others
    model=$1 run=$W/$2 rows=$3
    shift 3
    for how in usual same; do
        $PEFT eval "$model" --data "$W/$rows/test.jsonl" --with "libpeft=$run" \
            --with "torch-$how=$run-torch-$how" "$@"
    done
}
for task in ${*:-headlines support answers summaries translate}; do
    if [ "$task" = headlines ]; then
        for run in headlines-head headlines-lora; do
            twins $MINILM $run headlines
            versus $MINILM $run headlines
        done
        twins "$HF" headlines-smollm2 headlines
        versus $SMOLLM2 headlines-smollm2 headlines --compute auto
    else
        twins "$HF" "$task-lora" "$task"
        versus $SMOLLM2 "$task-lora" "$task" --generate --max-tokens 60 --compute auto
    fi
done
