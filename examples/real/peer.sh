#!/bin/sh
# The same by PyTorch + PEFT with the data and the budget of the runs of headlines.sh and texts.sh answers,
# and both held against each other by the same measure.  PEER_PYTHON has torch, transformers and peft:
#     python3 -m venv build/peer && build/peer/bin/pip install torch transformers peft
. "$(dirname "$0")/common.sh"
PEER_PYTHON=${PEER_PYTHON:-build/peer/bin/python}
HF=$W/smollm2-hf
[ -d "$HF" ] || $PEFT convert $SMOLLM2 --out "$HF" --dtype f32
peer() { # NAME BASE RUN TRAIN METHOD
    [ -d "$W/$1" ] || $PEER_PYTHON examples/real/peer.py "$2" "$W/$3" "$W/$4/train.jsonl" "$W/$1" "$5"
}
peer peer-headlines-head $MINILM headlines-head headlines head
peer peer-headlines-lora $MINILM headlines-lora headlines lora
$PEFT eval $MINILM --data $W/headlines/test.jsonl --with head=$W/headlines-head \
    --with torch-head=$W/peer-headlines-head --with lora=$W/headlines-lora \
    --with torch-lora=$W/peer-headlines-lora
peer peer-answers-lora "$HF" answers-lora answers lora
$PEFT eval $SMOLLM2 --data $W/answers/test.jsonl --with lora=$W/answers-lora \
    --with torch-lora=$W/peer-answers-lora --generate --max-tokens 60 --compute auto
