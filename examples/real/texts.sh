#!/bin/sh
# texts.sh support|answers|summaries|translate: LoRA on SmolLM2 with settings that it chose, and how
# its answers to held-out prompts compare with those of the untouched model.
. "$(dirname "$0")/common.sh"
split "$1" 0.8,0.1,0.1 --group text
run "$1-lora" $SMOLLM2 "$W/$1/train.jsonl" "$W/$1/valid.jsonl" --auto --method lora --compute auto
$PEFT eval $SMOLLM2 --data "$W/$1/test.jsonl" --with "lora=$W/$1-lora" --generate --max-tokens 60 \
    --few-shot 3 --shots "$W/$1/train.jsonl" --compute auto
