#!/bin/sh
# Sentiment of tweets and film snippets: a new head on a frozen MiniLM, LoRA on MiniLM, LoRA on
# SmolLM2; beside the most frequent label and, of SmolLM2, the model as it is.
. "$(dirname "$0")/common.sh"
split headlines 0.5,0.1,0.4 --stratify label --group text
run headlines-head $MINILM $W/headlines/train.jsonl $W/headlines/valid.jsonl --auto --method head
run headlines-lora $MINILM $W/headlines/train.jsonl $W/headlines/valid.jsonl --auto --method lora
run headlines-smollm2 $SMOLLM2 $W/headlines/train.jsonl $W/headlines/valid.jsonl --auto --method lora \
    --compute auto
$PEFT eval $MINILM --data $W/headlines/test.jsonl --with head=$W/headlines-head \
    --with lora=$W/headlines-lora
$PEFT eval $SMOLLM2 --data $W/headlines/test.jsonl --with lora=$W/headlines-smollm2 --compute auto
