#!/bin/sh
# Back-translation: texts.sh translate and texts.sh translate-back have trained SmolLM2 both ways; merged, the
# two reword questions of support desk by way of French.
. "$(dirname "$0")/common.sh"
for way in translate translate-back; do
    [ -f "$W/$way.gguf" ] || $PEFT merge $SMOLLM2 --adapter "$W/$way-lora" --out "$W/$way.gguf" --dtype q8_0
done
$PEFT data augment $W/support/train.jsonl --out $W/support-more.jsonl --overwrite --limit 100 \
    --eval $W/support/test.jsonl --back-translate $W/translate.gguf,$W/translate-back.gguf --max-tokens 40
