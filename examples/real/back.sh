#!/bin/sh
# Back-translation with SmolLM2 itself: texts.sh translate has trained it to translate into French; the way
# back is trained with the same settings, and both reword what is asked in support.jsonl.
. "$(dirname "$0")/common.sh"
for rows in support translate-back; do
    split $rows 0.8,0.1,0.1 --group text
done
run translate-back-lora $SMOLLM2 $W/translate-back/train.jsonl $W/translate-back/valid.jsonl --compute auto \
    $(python3 -c 'import json, sys; a = json.load(open(sys.argv[1])); print("--rank", a["rank"], "--lr", a["lr"],
        "--batch", a["batch"], "--epochs", a["epochs"], "--schedule linear --warmup", a["warmup"])' \
        $W/translate-lora/auto.json)
for way in translate translate-back; do
    [ -f "$W/$way.gguf" ] || $PEFT merge $SMOLLM2 --adapter "$W/$way-lora" --out "$W/$way.gguf" --dtype q8_0
done
$PEFT eval $SMOLLM2 --data $W/translate-back/test.jsonl --with "back=$W/translate-back-lora" --generate \
    --max-tokens 60 --compute auto
$PEFT data augment $W/support/train.jsonl --out $W/support-more.jsonl --overwrite --limit 100 --max-tokens 40 \
    --eval $W/support/test.jsonl --back-translate $W/translate.gguf,$W/translate-back.gguf
