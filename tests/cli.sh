#!/bin/sh
# The `peft` command: every sub-command, exit codes, valid JSON, wrong files,
# options and data, interruption and resume, and a full disk.  Uses the tiny
# models of tests/golden, which have no tokenizer, and tools/tiny/model if it is
# there.  Ends with `N passed, N failed`.
cd "$(dirname "$0")/.." || exit 1
PEFT=${PEFT:-$PWD/${BUILD:-build/release}/peft}
ROOT=$PWD
GOLDEN=$PWD/tests/golden/tiny
TEXT=$PWD/tools/tiny/model
SUPPORT=$PWD/examples/data/support.jsonl
DIR=$(mktemp -d) || exit 1
trap 'rm -rf "$DIR"' EXIT
trap 'exit 1' INT TERM HUP
cd "$DIR" || exit 1
passed=0
failed=0

good() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "FAILED $1"
    [ -s err ] && tail -n 5 err
}

# run CODE NAME ARGUMENTS...: stdout to `out`, stderr to `err`.
run() {
    want=$1 name=$2
    shift 2
    "$PEFT" "$@" >out 2>err </dev/null
    got=$?
    if [ $got -eq "$want" ]; then good; else bad "$name: exit $got, expected $want: peft $*"; fi
}
holds() { # NAME COMMAND...
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then good; else bad "$name"; fi
}
says() { # FILE PATTERN
    if grep -q -e "$2" "$1"; then good; else bad "$1 does not say: $2"; fi
}
HAVE_PYTHON=$(command -v python3)
valid_json() { # FILE KEY: one object with this key
    [ -n "$HAVE_PYTHON" ] || { grep -q "\"$2\": " "$1"; return; }
    python3 -c 'import json, sys; sys.exit(sys.argv[2] not in json.load(open(sys.argv[1])))' "$1" "$2"
}
valid_rows() { # FILE N: rows with a loss, every line JSON
    [ -n "$HAVE_PYTHON" ] || { [ "$(grep -c '"loss": ' "$1")" -eq "$2" ]; return; }
    python3 -c 'import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(sum("loss" in r for r in rows) != int(sys.argv[2]))' "$1" "$2"
}
tree_sum() { find "$1" -type f -exec cksum {} + | sort; }
size_of() { wc -c <"$1" | tr -d ' '; }

# --------------------------------------------------------------------- data
i=0
while [ $i -lt 24 ]; do
    a=$((i * 7 % 70 + 10))
    echo "{\"input_ids\": [1, $a, $((a + 3)), $((a + 6)), $((a + 9)), $((a + 12))]," \
        "\"labels\": [-100, -100, $((a + 3)), $((a + 6)), $((a + 9)), $((a + 12))]}"
    i=$((i + 1))
done >ids.jsonl
i=0
while [ $i -lt 8 ]; do
    a=$((i * 9 % 70 + 11))
    echo "{\"input_ids\": [2, $a, $((a + 3)), $((a + 6)), $((a + 9))]," \
        "\"labels\": [-100, -100, $((a + 3)), $((a + 6)), $((a + 9))]}"
    i=$((i + 1))
done >eval.jsonl
i=0
while [ $i -lt 12 ]; do
    echo "{\"input_ids\": [5, $((i + 30)), $((i % 2 * 9 + 40)), 7], \"label\": \"c$((i % 2))\"}"
    i=$((i + 1))
done >classes.jsonl
i=0
while [ $i -lt 40 ]; do
    echo "{\"input_ids\": [5, $((i + 30)), $((i % 2 * 9 + 40)), 7], \"label\": \"LABEL_$((i % 2))\"}"
    i=$((i + 1))
done >many.jsonl
sed 's/c0/LABEL_0/; s/c1/LABEL_1/' classes.jsonl >named.jsonl

# --------------------------------------------------------- help and mistakes
run 0 help --help
run 0 version --version
says out '^peft [0-9]*\.[0-9]*\.[0-9]'
for command in doctor inspect train eval generate chat convert merge list tokenize plan bench; do
    run 0 "$command --help" $command --help
    holds "$command --help begins with examples" sh -c 'head -n 1 out | grep -q Examples'
done
run 2 'no command'
run 2 'unknown command' trian
says err 'did you mean train'
run 2 'unknown option' train "$GOLDEN/llama" --ranks 3
says err 'did you mean --rank'
run 2 'no value' eval "$GOLDEN/llama" --data
run 2 'bad number' train "$GOLDEN/llama" --data ids.jsonl --out x --lr fast
run 2 'out of range' train "$GOLDEN/llama" --data ids.jsonl --out x --rank -1
run 2 'no model' train --data ids.jsonl --out x
run 2 'no data' train "$GOLDEN/llama" --out x
run 2 'no out' train "$GOLDEN/llama" --data ids.jsonl
run 2 'unknown method' train "$GOLDEN/llama" --data ids.jsonl --out x --method lara
run 2 'bad range' train "$GOLDEN/llama" --data ids.jsonl --out x --freeze a-b
run 2 'no such tensor' train "$GOLDEN/llama" --data ids.jsonl --out x --unfreeze 'nothing.*'
run 2 'two lengths' train "$GOLDEN/llama" --data ids.jsonl --out x --epochs 1 --steps 1
run 2 'out is the model' train "$GOLDEN/llama" --data ids.jsonl --out "$GOLDEN/llama"
holds 'mistakes leave nothing behind' test ! -e x

# ---------------------------------------------------------------- bad files
run 3 'no such model' inspect missing.gguf
says err 'missing.gguf'
echo 'this is no model' >junk.gguf
run 3 'junk model' inspect junk.gguf
run 3 'no such data' train "$GOLDEN/llama" --data missing.jsonl --out x
: >empty.jsonl
run 3 'empty data' train "$GOLDEN/llama" --data empty.jsonl --out x
{ head -n 2 ids.jsonl; echo '{"input_ids": [1, 2'; } >broken.jsonl
run 3 'broken line' train "$GOLDEN/llama" --data broken.jsonl --out x
says err 'line 3'
echo '{"input_ids": [1, 999999, 3]}' >large.jsonl
run 3 'id beyond the vocabulary' train "$GOLDEN/llama" --data large.jsonl --out x
run 3 'no such adapter' eval "$GOLDEN/llama" --data ids.jsonl --adapter missing
run 3 'text without tokenizer' train "$GOLDEN/llama" --data "$SUPPORT" --out x
says err 'tokenizer'
cp -R "$GOLDEN/llama" cut && chmod -R u+w cut
head -c 60000 "$GOLDEN/llama/model.safetensors" >cut/model.safetensors
run 3 'truncated model' inspect cut
holds 'bad files leave nothing behind' test ! -e x

# --------------------------------------------------------- what needs no run
run 0 doctor doctor
run 0 'doctor --json' doctor --json
holds 'doctor json' valid_json out cores
for model in llama mistral llama_cls bert; do
    run 0 "inspect $model" inspect "$GOLDEN/$model" --tensors
    run 0 "inspect $model --json" inspect "$GOLDEN/$model" --tensors --json
    holds "inspect $model json" valid_json out tensors
done
run 0 plan plan "$GOLDEN/llama" --data ids.jsonl
run 0 'plan --json' plan "$GOLDEN/llama" --data ids.jsonl --method full --json
holds 'plan json' valid_json out peak_bytes
run 0 bench bench "$GOLDEN/llama" --steps 2 --length 8 --roofline
says out '^attention'
says out 'of the float32 peak'
run 0 'bench --json' bench "$GOLDEN/llama" --steps 2 --data ids.jsonl --method full --roofline --json
holds 'bench json' valid_json out share_of_peak
run 2 'bench without data' bench "$GOLDEN/bert"
run 0 eval eval "$GOLDEN/llama" --data eval.jsonl
run 0 'eval --json' eval "$GOLDEN/llama" --data eval.jsonl --json
holds 'eval json' valid_json out token_accuracy

# ----------------------------------------------------- before, and by themselves
run 0 'plan: price and row' plan "$GOLDEN/llama" --data ids.jsonl --epochs 2 --price 0.5/K --show-row 3
says out '288 tokens are read, 192 of them trained'
says out 'price 0.144, at 0.5/K'
says out '^1 24 \[27 30 33 36\]'
run 0 'plan: in JSON' plan "$GOLDEN/llama" --data ids.jsonl --epochs 1 --price 2e-3 --json
says out '"tokens_of_run": 144, "trained_tokens_of_run": 96, "disk": {"adapter": [0-9]'
says out '"price": 0.288, "flaws": \[\], "row": "1 10 '
run 2 'plan: no price' plan "$GOLDEN/llama" --data ids.jsonl --price cheap
run 2 'plan: no such row' plan "$GOLDEN/llama" --data ids.jsonl --steps 1 --show-row 99
{ cat eval.jsonl; sed -n 5p ids.jsonl; } >leaks.jsonl
run 3 'leak' train "$GOLDEN/llama" --data ids.jsonl --eval leaks.jsonl --out x
says err '1 rows of the evaluation data are training rows too (lines 9=5)'
run 3 'leak: plan' plan "$GOLDEN/llama" --data ids.jsonl --eval leaks.jsonl
run 0 'leak: in spite of it' train "$GOLDEN/llama" --data ids.jsonl --eval leaks.jsonl --steps 2 \
    --allow-leak --out leaks
says err 'warning: .*training rows too'
run 3 'answers cut off' train "$GOLDEN/llama" --data ids.jsonl --max-len 4 --out x
says err '24 answers are cut off.*lines 1, 2, 3.*--max-len 6 would hold them'
holds 'refusals leave nothing behind' test ! -e x
run 0 'auto' train "$GOLDEN/bert" --data many.jsonl --checkpoint-every 1 --out auto
says err '10 of 40 rows were set aside to choose by, of each label its share; the training has all'
says err '^  method  .*the best of full, lora, last'
says err '^  lr  *[0-9.e-]*  *range test'
says err '^  epochs  .*each point a complete run'
says err '^  runs  .*times of what the training itself takes'
holds 'auto.json' valid_json auto/auto.json why
says auto/auto.json '"tried": \[{"method": "full"'
says auto/training_args.json '"auto": {"method": "the best of'
says auto/training_args.json '"rows": 40,'
# A killed run goes on with what was chosen, though another choice would be made now.
cp -r auto killed
rm -rf killed/adapter* killed/model* killed/README.md killed/receipt.json killed/report.html
rm -rf "killed/checkpoint-$(ls killed | sed -n 's/^checkpoint-//p' | sort -n | tail -n 1)"
run 0 'auto: resumed' train "$GOLDEN/bert" --data many.jsonl --checkpoint-every 1 --out killed \
    --resume
says err 'resumed after step'
holds 'auto: resumed: nothing is chosen' sh -c "! grep -q 'range test' err"
for f in auto/*.safetensors; do
    holds "auto: resumed: the same ${f#auto/}" cmp -s "$f" "killed/${f#auto/}"
done
run 0 'auto: replayed' replay killed/receipt.json --out again --overwrite
run 0 'auto: no refit' train "$GOLDEN/bert" --data many.jsonl --auto --no-refit --method head \
    --out auto4
says err '10 of 40 rows are set aside for evaluation'
says err '^  patience  '
says auto4/training_args.json '"rows": 30,'
run 0 'auto: given' train "$GOLDEN/bert" --data many.jsonl --auto --lr 0.01 --epochs 2 --out auto2
says err '^  lr  *0.01  *given'
says auto2/training_args.json '"learning_rate": 0.01'
says auto2/training_args.json '"epochs\|"steps": 16'
run 0 'auto: not' train "$GOLDEN/bert" --data many.jsonl --no-auto --out auto3
says auto3/training_args.json '"learning_rate": "auto"'
run 0 'auto: plan' plan "$GOLDEN/bert" --data many.jsonl --json
says out '"auto": {"evaluation": "10 of 40'
run 0 'the last layers' train "$GOLDEN/bert" --data many.jsonl --method last --last 1 --steps 2 \
    --out last
run 2 'auto on a bad method' train "$GOLDEN/bert" --data many.jsonl --auto --method lara --out x

# ------------------------------------------------------------------ training
run 0 'train lora' train "$GOLDEN/llama" --data ids.jsonl --eval eval.jsonl --epochs 2 \
    --lr 1e-2 --out lora --json
says err 'trainable params: [0-9,]* || all params: [0-9,]* || trainable%: [0-9.]*'
holds 'every row on stdout' valid_rows out 12
holds 'metrics.jsonl' valid_rows lora/metrics.jsonl 12
says lora/metrics.jsonl '"eval_loss": '
says lora/metrics.jsonl '"num_input_tokens_seen": .*"tokens_per_second": .*"rss_bytes": '
for file in adapter_config.json adapter_model.safetensors report.html training_args.json; do
    holds "lora/$file" test -s lora/$file
done
holds 'the report needs no network' sh -c '! grep -q -e "http" -e "<script" lora/report.html'
run 0 'eval adapter' eval "$GOLDEN/llama" --data eval.jsonl --adapter lora --json
run 0 'go on from an adapter' train "$GOLDEN/llama" --data ids.jsonl --adapter lora --steps 2 \
    --out more --quiet
holds 'quiet is quiet' test ! -s err
run 0 'merge to a folder' merge "$GOLDEN/llama" --adapter lora --out merged
run 0 'eval merged' eval merged --data eval.jsonl --json
run 0 'merge to a gguf' merge "$GOLDEN/llama" --adapter lora --out merged.gguf --json
run 0 'eval merged gguf' eval merged.gguf --data eval.jsonl --json
run 2 'merge replaces nothing by accident' merge "$GOLDEN/llama" --adapter lora --out merged
says err 'overwrite'
run 0 'merge replaces when asked' merge "$GOLDEN/llama" --adapter lora --out merged --overwrite
run 0 'convert to a gguf' convert "$GOLDEN/llama" --out plain.gguf --dtype bf16
says err 'plain.gguf written: .* in 21 tensors as gguf: F32 x5, BF16 x16'
run 2 'convert replaces nothing by accident' convert "$GOLDEN/llama" --out plain.gguf
run 0 'convert to a folder' convert plain.gguf --out plain --json
holds 'convert json' valid_json out types
run 0 'convert to bitsandbytes' convert plain --out four --dtype nf4_dq
says err 'NF4_BF16 x14'
run 0 'eval 4-bit' eval four --data eval.jsonl --json
run 0 'train on 4-bit' train four --data ids.jsonl --steps 2 --out qlora --quiet
run 0 'merge into 4-bit' merge four --adapter qlora --out merged4 --dtype nf4_dq \
    --calibrate eval.jsonl
says err 'against four with the adapter: KL [0-9.]* a token'
run 0 'merge tells the difference' merge "$GOLDEN/llama" --adapter lora --out told --json \
    --calibrate eval.jsonl
holds 'merge json' valid_json out difference

# -------------------------------------------------------------- fewer bits
for type in q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k; do
    run 0 "quantize to $type" quantize "$GOLDEN/llama" --to $type --out few-$type.gguf \
        --calibrate eval.jsonl
    says err 'KL 0\.[0-9]* a token'
    run 0 "eval $type" eval few-$type.gguf --data eval.jsonl --json
done
for type in nf4 fp4 nf4_dq fp4_dq; do
    run 0 "quantize to $type" quantize "$GOLDEN/llama" --to $type --out few-$type
    run 0 "eval $type" eval few-$type --data eval.jsonl --json
done
dynamic="quantize $GOLDEN/llama --to dynamic --calibrate eval.jsonl"
most=0
for budget in 80K 0.0815M 90kb; do
    run 0 "budget $budget" $dynamic --budget $budget --out dynamic.gguf --overwrite --json
    valid_json out weight_bytes && size=$(sed -n 's/.*"weight_bytes": *\([0-9]*\).*/\1/p' out)
    holds "budget $budget is kept and used" test "${size:-0}" -gt "$most"
    most=$size
done
holds 'bytes are bytes' test "$most" -le 90000
run 0 'bits a weight' $dynamic --bits 6 --out by-bits.gguf
run 0 'bpw' $dynamic --budget 6bpw --out by-bpw.gguf
holds 'the same file' cmp by-bits.gguf by-bpw.gguf
run 0 'a number is bits' $dynamic --budget 6 --out by-number.gguf
holds 'the same file again' cmp by-bits.gguf by-number.gguf
run 0 'dynamic folder' $dynamic --bits 12 --out dynamic
says err 'NF4 x'
run 0 'eval dynamic folder' eval dynamic --data eval.jsonl
run 0 'an encoder' quantize "$GOLDEN/bert" --to dynamic --calibrate named.jsonl --bits 11 \
    --out bert4
says err 'cosine 0.99'
for budget in 0 -3 1.2X 100bpw bpw 5bits 90KBB nan inf ''; do
    run 2 "budget $budget" $dynamic --budget "$budget" --out never.gguf
    says err '--budget is\|needs'
done
run 2 'bits out of range' $dynamic --bits 99 --out never.gguf
run 2 'budget and bits' $dynamic --budget 90K --bits 5 --out never.gguf
run 2 'budget of one type' quantize "$GOLDEN/llama" --to q8_0 --budget 1M --out never.gguf
run 2 'dynamic without text' quantize "$GOLDEN/llama" --to dynamic --out never.gguf
run 2 'quantize to what' quantize "$GOLDEN/llama" --out never.gguf
run 2 'no such type' quantize "$GOLDEN/llama" --to q4_x --out never.gguf
says err 'q4_k'
run 2 'nf4 is for folders' quantize "$GOLDEN/llama" --to nf4 --out never.gguf
run 2 'q4_k is for GGUF' quantize "$GOLDEN/llama" --to q4_k --out never
$PEFT $dynamic --budget 20K --out never.gguf 2>err </dev/null
says err 'expected [0-9]* or more'
holds 'nothing is left of these' sh -c '! test -e never && ! test -e never.gguf'
run 2 'convert: no such type' convert plain --out never --dtype q3
run 2 'convert: nowhere' convert plain
holds 'nothing is left of it' test ! -e never
for table in families formats types tokenizers heads; do
    run 0 "list $table" list $table
    run 0 "list $table --json" list $table --json
    holds "list $table json" grep -q '"name"' out
done
run 2 'list nothing' list nothing
run 2 'list' list
for method in full head none; do
    set -- --method $method
    [ $method = none ] && set -- --method none --unfreeze '*norm*' --freeze 0-0
    run 0 "train $method" train "$GOLDEN/mistral" --data ids.jsonl --steps 3 --out $method "$@"
    run 0 "eval $method" eval $method --data eval.jsonl --json
done
run 0 'classifier: lora with a head' train "$GOLDEN/llama" --data classes.jsonl --eval 0.25 \
    --epochs 8 --lr 1e-2 --out classes
run 0 'classifier: eval' eval "$GOLDEN/llama" --data classes.jsonl --adapter classes --json
holds 'classifier json' valid_json out confusion
run 0 'classifier: its own head' train "$GOLDEN/llama_cls" --data named.jsonl --method head \
    --epochs 2 --out named
run 0 'classifier: table' eval named --data named.jsonl
says out '^ece '
says out '^LABEL_0  *[0-9]'
run 0 'eval: two models' eval "$GOLDEN/llama_cls" --data named.jsonl --with tuned=named \
    --samples 100 --json
holds 'eval: their verdicts' valid_json out verdicts
run 0 'eval: one has no head' eval "$GOLDEN/llama" --data classes.jsonl --with tuned=classes
says err 'base cannot be measured'
says out '^accuracy '

# ----------------------------------------------------------------- pictures
VIT=$GOLDEN/vit
run 0 'pictures: inspect' inspect "$VIT"
says out 'pictures *16 x 16, 3 channels'
if "$PEFT" classify "$VIT" --image "$VIT/a0.png" >/dev/null 2>&1; then
    mkdir -p pictures/LABEL_1 pictures/LABEL_3
    cp "$VIT/a0.png" "$VIT/c0.png" pictures/LABEL_1
    cp "$VIT/a1.png" "$VIT/c1.png" pictures/LABEL_3
    run 0 'pictures: plan' plan "$VIT" --data pictures --method head --json
    run 0 'pictures: train' train "$VIT" --data pictures --epochs 3 --augment flip,rotate=5 \
        --out vit
    run 0 'pictures: eval' eval "$VIT" --data "$VIT/data.csv" --adapter vit --json
    holds 'pictures: eval json' valid_json out confusion
    run 0 'pictures: classify' classify "$VIT" --adapter vit --image "$VIT/a0.png" --top 2
    says out 'a0.png.*LABEL_'
    run 3 'pictures: a broken one' classify "$VIT" --image "$VIT/data.csv"
    says err 'neither a PNG nor a JPEG'
    run 3 'pictures: text for a ViT' train "$VIT" --data ids.jsonl --out x
    run 2 'pictures: no --image' classify "$VIT"
fi
run 0 'frozen: cached' train "$GOLDEN/bert" --data named.jsonl --eval named.jsonl --allow-leak \
    --method head --epochs 3 --out frozen1 --cache-file kept
says err 'cached: what the head reads for 12 rows'
says err 'rows used, 12 computed'
run 0 'frozen: another run' train "$GOLDEN/bert" --data named.jsonl --method head --epochs 3 \
    --lr 0.01 --cache-file kept --cache 0 --out frozen2
says err 'rows used, 0 computed: 100% hits'
run 0 'frozen: not wanted' train "$GOLDEN/bert" --data named.jsonl --method head --epochs 3 \
    --cache 0 --out frozen3
holds 'frozen: no word of a cache' sh -c '! grep -q -i cache err'
run 3 'frozen: no cache' train "$GOLDEN/bert" --data named.jsonl --method head --epochs 2 \
    --cache-file named.jsonl --out frozen4
says err 'is no cache of this library'
run 2 'frozen: no size' train "$GOLDEN/bert" --data named.jsonl --out frozen5 --cache lots
run 0 'encoder head' train "$GOLDEN/bert" --data named.jsonl --method head --epochs 2 --out bert
run 3 'unknown label' eval "$GOLDEN/bert" --data classes.jsonl
says err 'c0'
run 0 'options of all kinds' train "$GOLDEN/llama" --data ids.jsonl --rank 4 --alpha 8 \
    --no-rslora --dropout 0.1 --targets q_proj,v_proj --schedule linear --warmup 2 \
    --weight-decay 0.01 --clip 0 --batch 2 --accumulate 2 --max-len 16 --packing --no-shuffle \
    --steps 4 --seed 7 --threads 1 --recompute layers --freeze -1 --out options
size=$(size_of "$GOLDEN/llama/model.safetensors")
{ head -c $((size - 16)) "$GOLDEN/llama/model.safetensors"; printf '\377%.0s' 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6
} >cut/model.safetensors
run 5 'a loss that is not finite' train cut --data ids.jsonl --steps 4 --out nan --json
says out '"loss": null'

# -------------------------------------------------- same bits, any way there
fresh() { run 0 "train $1" train "$GOLDEN/llama" --data ids.jsonl --steps 12 --seed 3 --quiet \
    --dropout 0.1 --out "$@"; }
fresh a
fresh b --threads 1
holds 'same bits at any thread count' cmp a/adapter_model.safetensors b/adapter_model.safetensors

long="train $GOLDEN/llama --data ids.jsonl --eval eval.jsonl --steps 6000 --eval-every 2000"
# begin_and_signal SIGNAL ROWS OPTIONS...: starts the long run, and sends it a
# signal once so many rows are logged; $code is its exit status.
begin_and_signal() {
    signal=$1 rows=$2
    shift 2
    "$PEFT" $long "$@" >/dev/null 2>err &
    pid=$!
    n=0
    while [ $n -lt 1200 ] &&
        [ "$({ wc -l <"$out/metrics.jsonl"; } 2>/dev/null || echo 0)" -lt "$rows" ]; do
        sleep 0.05
        n=$((n + 1))
    done
    kill -"$signal" $pid
    wait $pid 2>/dev/null
    code=$?
}
out=stopped
begin_and_signal INT 20 --out $out
if [ $code -eq 130 ]; then good; else bad "Ctrl-C: exit $code, expected 130"; fi
says err '--resume$'
holds 'a checkpoint is there' sh -c 'ls -d stopped/checkpoint-*'
run 2 'not started anew by accident' $long --out stopped
run 2 'not resumed with other settings' $long --out stopped --resume --lr 0.5
says err 'learning_rate'
run 0 resume $long --out stopped --resume --quiet
run 0 uninterrupted $long --out whole --quiet
holds 'resumed has the same bits' cmp stopped/adapter_model.safetensors \
    whole/adapter_model.safetensors
holds 'resumed has every row once' valid_rows stopped/metrics.jsonl 6000
out=killed
begin_and_signal KILL 250 --checkpoint-every 100 --out $out
run 0 'resume after a kill' $long --out killed --resume --quiet
holds 'the same bits after a kill' cmp killed/adapter_model.safetensors \
    whole/adapter_model.safetensors
holds 'every row once after a kill' valid_rows killed/metrics.jsonl 6000
run 1 'nothing to resume' train "$GOLDEN/llama" --data ids.jsonl --out a --resume

# --------------------------------------------------- runs watched, settings tried
few="train $GOLDEN/llama --data eval.jsonl --eval ids.jsonl"
run 0 'overfitting' $few --epochs 60 --lr 0.02 --patience 4 --out watched --json
says err 'overfitting:'
says err 'ended after step'
says err 'kept: the weights of step'
says out '"finding": "overfitting"'
says watched/metrics.jsonl '"loss_smooth": '
says watched/report.html '<h2>Findings</h2>'
holds 'no folder of the best one is left' sh -c '! ls -d watched/best-*'
best=$(sed -n 's/^kept: the weights of step \([0-9]*\),.*/\1/p' err)
run 0 'the last weights' $few --epochs 60 --lr 0.02 --keep last --patience 4 --out lasting
holds 'they differ' sh -c '! cmp watched/adapter_model.safetensors lasting/adapter_model.safetensors'
run 0 'the kept ones are of that step' $few --epochs 60 --lr 0.02 --eval-every "$best" \
    --patience 1 --out short --quiet
says watched/README.md "rows, $best steps"
run 5 'divergence ends it' train "$GOLDEN/llama" --data ids.jsonl --lr 50 --clip 0 --steps 200 \
    --stop-on diverged,dead --out wild
says err 'diverge\|not finite\|dead'
run 0 'a dead run' train "$GOLDEN/llama" --data ids.jsonl --lr 1e-15 --steps 12 --out dead
says err 'step 5, dead:'
run 2 'patience needs rows' train "$GOLDEN/llama" --data ids.jsonl --patience 2 --auto --no-auto \
    --out x
run 2 'stop on what' $few --stop-on explosion --out x
run 2 'keep what' $few --keep all --out x
run 2 'no such metric' $few --metric beauty --out x
says err 'beauty'

tune="tune $GOLDEN/llama --data ids.jsonl --eval eval.jsonl --batch 2 --trials 4"
space='lr=1e-3..1e-1,rank=2|4,targets=all|q_proj+v_proj,epochs=2..6'
run 0 'tune' $tune --search "$space" --out tuned --json
holds 'tune is JSON' valid_json out command
says tuned/tune.html 'Runs'
holds 'every run is a line' test "$(wc -l <tuned/trials.jsonl)" -eq 6
run 0 'eval of the best' eval "$GOLDEN/llama" --data eval.jsonl --adapter tuned/best
cp tuned/trials.jsonl whole.jsonl
run 0 'tune has nothing left to do' $tune --search "$space" --out tuned
holds 'and does nothing' cmp tuned/trials.jsonl whole.jsonl
command=$(sed -n '/make it again/{n;p;}' err | sed 's/^ *peft //; s/--out run$/--out retuned/')
eval "run 0 'the command makes it again' $command"
holds 'the same adapter' cmp tuned/best/adapter_model.safetensors \
    retuned/adapter_model.safetensors
run 2 'another search' $tune --search 'lr=1e-3..1e-2' --out tuned
says err 'another search'
run 0 'anew' $tune --search 'lr=1e-3..1e-2' --out tuned --overwrite --quiet
"$PEFT" tune "$GOLDEN/llama" --data ids.jsonl --eval eval.jsonl --batch 2 --search \
    'lr=1e-3..1e-1,epochs=500' --trials 9 --out broken-off >/dev/null 2>&1 &
pid=$!
n=0
while [ $n -lt 1200 ] &&
    [ "$({ wc -l <broken-off/trials.jsonl; } 2>/dev/null || echo 0)" -lt 3 ]; do
    sleep 0.05
    n=$((n + 1))
done
kill -KILL $pid
wait $pid 2>/dev/null
head -n 3 broken-off/trials.jsonl >before.jsonl
run 0 'tune goes on after a kill' tune "$GOLDEN/llama" --data ids.jsonl --eval eval.jsonl \
    --batch 2 --search 'lr=1e-3..1e-1,epochs=500' --trials 9 --out broken-off
says err 'trial 1 .*before'
head -n 3 broken-off/trials.jsonl >after.jsonl
holds 'what was done stays' cmp before.jsonl after.jsonl
began=$(date +%s)
run 0 'tune keeps to its budget' tune "$GOLDEN/llama" --data ids.jsonl --eval eval.jsonl \
    --batch 2 --budget 3s --out timely --json
holds 'budget kept' test $(($(date +%s) - began)) -le 20
run 2 'tune: no rows to judge by' tune "$GOLDEN/llama" --data ids.jsonl --out x
run 2 'tune: no such time' $tune --budget soon --out x
run 2 'tune: no such setting' $tune --search speed=3 --out x
says err 'expected lr='

# ------------------------------------------------------------------ disk full
tree_sum lora | grep -e adapter_ >before
limit=$(($(size_of lora/adapter_model.safetensors) / 512 / 2))
(ulimit -f $limit; exec "$PEFT" train "$GOLDEN/llama" --data ids.jsonl --steps 2 --lr 1e-3 \
    --out lora >out 2>err)
code=$?
if [ $code -eq 1 ]; then good; else bad "disk full: exit $code, expected 1"; fi
tree_sum lora | grep -e adapter_ >after
holds 'disk full: the old adapter stays' cmp before after
run 0 'adapter check' adapter check lora --reader peft
says out '^peft  *loads'
run 7 'adapter check: rslora in llama.cpp' adapter check lora --base "$GOLDEN/llama" --json
holds 'adapter check is JSON' valid_json out readers
run 2 'adapter check: unknown reader' adapter check lora --reader ollama
run 3 'adapter check: nowhere' adapter check nowhere
run 2 'adapter convert without a base' adapter convert lora folded
run 2 'adapter convert without OUT' adapter convert lora --base "$GOLDEN/llama"
run 0 'adapter convert' adapter convert lora folded --base "$GOLDEN/llama" --json
holds 'adapter convert is JSON' valid_json out max_logit_diff
run 0 'adapter check of it' adapter check folded
run 2 'adapter convert replaces nothing' adapter convert lora folded --base "$GOLDEN/llama"
run 0 'adapter convert to gguf' adapter convert lora folded.gguf --base "$GOLDEN/llama"
run 6 'adapter check of a gguf' adapter check folded.gguf
run 0 'adapter convert, merged' adapter convert lora both --base "$GOLDEN/llama" --merge
run 3 'adapter convert beyond the limit' adapter convert lora half --base "$GOLDEN/llama" \
    --dtype bf16 --limit 1e-9
if [ -e half ]; then bad 'a failed conversion leaves a folder'; else good; fi
run 2 'adapter without a word' adapter
run 0 'help of two words' help adapter check
cp merged.gguf old.gguf
(ulimit -f $limit; exec "$PEFT" merge "$GOLDEN/llama" --adapter a --out merged.gguf --overwrite \
    >out 2>err)
code=$?
if [ $code -eq 1 ]; then good; else bad "disk full: merge: exit $code, expected 1"; fi
holds 'disk full: the old model stays' cmp merged.gguf old.gguf
if [ -w /dev/full ]; then
    "$PEFT" doctor --json >/dev/full 2>err
    code=$?
    if [ $code -eq 1 ]; then good; else bad "full stdout: exit $code, expected 1"; fi
fi

# ----------------------------------------------------------------------- text
if [ -e "$TEXT/config.json" ]; then
    run 0 tokenize tokenize "$TEXT" --text 'Hello world' --json
    holds 'tokenize json' valid_json out ids
    run 0 'tokenize: table' tokenize "$TEXT" --text 'Hello world' --no-special
    ids=$(cut -f 1 out | tr '\n' ' ')
    run 0 decode tokenize "$TEXT" --decode "$ids"
    holds 'decoded' test "$(cat out)" = 'Hello world'
    run 0 generate generate "$TEXT" --prompt 'Hello' --max-tokens 8 --json
    holds 'generate json' valid_json out tokens_per_second
    run 2 'no prompt' generate "$TEXT"
    echo Hello | "$PEFT" generate "$TEXT" --max-tokens 4 >out 2>err
    holds 'prompt from stdin' test $? -eq 0
    printf 'Hello\n/reset\nHello\n/quit\n' | "$PEFT" chat "$TEXT" --max-tokens 4 >out 2>err
    holds 'chat' test $? -eq 0
    printf 'Who are <you>?\n' >questions.txt
    head -n 20 "$SUPPORT" >few.jsonl
    run 0 'train on text' train "$TEXT" --data few.jsonl --eval 0.2 --steps 3 \
        --sample-file questions.txt --sample-tokens 8 --out text
    says text/report.html 'Who are &#60;you&#62;?'
    run 0 'generate with adapter' generate "$TEXT" --adapter text --prompt Hello --max-tokens 4
    printf '{"prompt": "Hello", "adapter": "t"}\n{"adapter": "", "prompt": "Hello"}\nHi\n' >asked.jsonl
    run 0 'generate at once' generate "$TEXT" --with t=text --prompts asked.jsonl --max-tokens 4 --json
    holds 'one line for each prompt' test "$(wc -l <out)" = 3
    run 0 'merge told by built-in texts' merge "$TEXT" --adapter text --out told.gguf --json
    holds 'their difference' valid_json out difference
    run 2 'no such adapter' generate "$TEXT" --with t --prompts asked.jsonl
    tail -n 4 "$SUPPORT" >held.jsonl
    set -- eval "$TEXT" --data held.jsonl --with t=text --max-tokens 8 --samples 100
    run 0 'eval: side by side' "$@" --few-shot 2 --shots few.jsonl --generate --out said.jsonl
    says out '^perplexity .*\[.*\] [=+-]'
    says out '^rougeL '
    says out 't .* base.*: perplexity [+-]'
    holds 'eval: an answer a row' test "$(wc -l <said.jsonl)" = 4
    run 0 'eval: side by side, json' "$@" --with base= --json
    holds 'eval: systems' valid_json out systems
    run 2 'eval: examples from where' "$@" --few-shot 2
    run 2 'eval: examples from elsewhere' "$@" --few-shot 2 --shots held.jsonl
    run 2 'eval: with what' eval "$TEXT" --data held.jsonl --with t
    run 3 'eval: no such adapter' eval "$TEXT" --data held.jsonl --with t=nowhere --out never
    printf 'text,label\nHello,good\nWho,bad\n' >two.csv
    run 0 'eval: labels by likelihood' eval "$TEXT" --data two.csv --question 'Which?' \
        --model same="$TEXT" --json
    holds 'eval: a board of them' valid_json out labels
    run 1 'eval: full disk' "$@" --out /dev/full/x
    run 0 'train adalora' train "$TEXT" --data few.jsonl --method adalora --steps 6 --out ada \
        --settings '{"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1}' --quiet
    run 0 'adalora: go on' train "$TEXT" --data few.jsonl --adapter ada --steps 2 --out ada2 --quiet
    run 0 'adalora: generate' generate "$TEXT" --adapter ada2 --prompt Hello --max-tokens 4
    run 0 'adalora: merge' merge "$TEXT" --adapter ada2 --out ada-merged --quiet
    run 6 'adalora: only PEFT loads it' adapter check ada --base "$TEXT"
    says out '^peft  *loads'
    says out '^llama.cpp  *refuses'
    run 3 'adalora: no LoRA by itself' adapter convert ada ada-lora --base "$TEXT"
    run 0 'adalora: as a LoRA' adapter convert ada ada-lora --base "$TEXT" --rank 4
    run 0 'adalora: that is one' adapter check ada-lora --base "$TEXT" --reader peft
    run 0 'adalora: merged' adapter convert ada ada-whole --base "$TEXT" --merge
    run 0 'init eva' train "$TEXT" --data few.jsonl --init eva --rank 4 --steps 2 --out eva --quiet
    run 2 'init eva: only LoRA' train "$TEXT" --data few.jsonl --init eva --method adalora \
        --steps 2 --out never
    run 0 'init loftq' train "$TEXT" --data few.jsonl --quant nf4 --init loftq --rank 4 --steps 2 \
        --out loftq --quiet
    run 0 'loftq: eval' eval "$TEXT" --data few.jsonl --quant nf4 --adapter loftq --json
    run 2 'init loftq: of floats' train "$TEXT" --data few.jsonl --init loftq --steps 2 --out never
    says err 'load it with `quant`'
    run 3 'init loftq: no such floats' train "$TEXT" --data few.jsonl --quant nf4 --init loftq \
        --init-model nowhere --steps 2 --out never
    holds 'nothing is left of those' test ! -e never
    run 0 'ptuning by LSTM' train "$TEXT" --data few.jsonl --method ptuning --steps 2 --out lstm \
        --quiet --settings '{"num_virtual_tokens": 4, "encoder_hidden_size": 8,
        "encoder_reparameterization_type": "LSTM"}'
    run 0 'ptuning by LSTM: generate' generate "$TEXT" --adapter lstm --prompt Hello --max-tokens 4
fi

# ------------------------------------------------- receipts, old rows, forgetting
BASE=$GOLDEN/llama
head -n 8 ids.jsonl >old.jsonl
tail -n 12 ids.jsonl >new.jsonl
run 0 'train: a receipt' train "$BASE" --data old.jsonl --steps 5 --rank 2 --out made
valid_json made/receipt.json words
run 0 replay replay made --out again
says out 'adapter_model.safetensors *the same bytes'
run 0 'replay: other threads, JSON' replay made/receipt.json --out again --overwrite --threads 1 --json
says out '"same": true}'
run 0 'train: under a limit' train "$BASE" --data old.jsonl --steps 3 --rank 2 --memory 100M --out held
says held/receipt.json '"--manner", "[0-9]*/'
run 0 'replay: under a limit' replay held --out held2 --quiet
run 0 'train --continue' train --continue made --data new.jsonl --replay-share 0.5 --steps 4 --out later
says err '^18 rows'
run 0 'replay: of what went on' replay later --out later2 --quiet
run 0 'train --continue without old rows' train --continue made --data new.jsonl --replay-share 0 \
    --steps 2 --out later3
says err '^12 rows'
run 2 'train --continue and --adapter' train --continue made --adapter made --data new.jsonl --out z
run 2 'train: which model' train --data new.jsonl --out z
run 3 'train --continue nothing' train --continue nowhere --data new.jsonl --out z
echo ' ' >>old.jsonl
run 3 'replay: other data' replay made --out again --overwrite
says err 'the data has changed'
echo '{"receipt": 2}' >odd.json
run 3 'replay: no receipt' replay odd.json --out again --overwrite
run 2 'replay: where to' replay made
run 2 'drift without texts' train "$BASE" --data old.jsonl --steps 2 --drift-bound 0.1 --out z
holds 'nothing of it is left' test ! -e z
if [ -e "$TEXT/config.json" ]; then
    run 0 'train: forgetting' train "$TEXT" --data "$SUPPORT" --limit 12 --steps 6 --lr 3e-3 --out far
    says err '^forgetting: KL to the base'
    run 0 'train --drift-bound' train "$TEXT" --data "$SUPPORT" --limit 12 --steps 6 --lr 3e-3 \
        --drift-bound 0.001 --out near
    kl() { grep -o '"kl_to_base": [0-9.e-]*' "$1" | cut -d' ' -f2; }
    holds 'the bound is kept' sh -c "[ $(kl near/receipt.json | awk '{print ($1 <= 0.001)}') = 1 ]"
    holds 'it was needed' sh -c "[ $(kl far/receipt.json | awk '{print ($1 > 0.001)}') = 1 ]"
    run 0 'replay: under a bound' replay near --out near2 --quiet
    run 0 'train --drift-bound: full' train "$TEXT" --data "$SUPPORT" --limit 12 --steps 6 \
        --lr 3e-3 --method full --drift-bound 0.001 --out near3
    says err '^what was trained has 0.[0-9]* of its weight now'
    holds 'the bound is kept: full' \
        sh -c "[ $(kl near3/receipt.json | awk '{print ($1 <= 0.001)}') = 1 ]"
fi

# ---------------------------------------------------------- looking at data
i=0
while [ $i -lt 60 ]; do
    echo "{\"text\": \"row number $i\", \"label\": \"$([ $((i % 4)) -eq 0 ] && echo few || echo many)\"}"
    i=$((i + 1))
done >seen.jsonl
echo '{"text": "row number 3", "label": "many"}' >>seen.jsonl
echo '{"text": "<script>alert(1)</script>", "label": "</title><b>x"}' >>seen.jsonl
echo '{"text": "broken" "label"}' >>seen.jsonl
run 0 'data inspect' data inspect seen.jsonl
says out '^schema .*text-label'
says out 'broken rows: 1; the first in line 63'
says out 'repeat another one exactly: 1'
says out '^many .*█'
run 0 'data inspect --json' data inspect seen.jsonl --json
valid_json out labels
run 0 'data inspect: part' data inspect seen.jsonl --limit 5 --json
says out '"rows": 5,'
run 3 'data inspect: no file' data inspect nowhere.jsonl
run 2 'data inspect: which' data inspect
: >none.jsonl
run 3 'data inspect: no rows' data inspect none.jsonl
run 0 'data report' data report seen.jsonl --eval seen.jsonl --out seen.html
says seen.html '^<!DOCTYPE html>'
says seen.html '&#60;script&#62;alert'
holds 'nothing of the data is mark-up' sh -c '! grep -q "<script\|<b>x" seen.html'
holds 'no network' sh -c '! grep -qE "https?://|src=|@import|url\(" seen.html'
run 0 'data report: again' data report seen.jsonl --out seen.html --quiet
run 2 'data report: no page is replaced' data report seen.jsonl --out seen.jsonl
run 0 'data report --json' data report seen.jsonl --json
valid_json out inspect
run 2 'data report: where to' data report seen.jsonl
run 3 'data report: no file' data report nowhere.jsonl --out nowhere.html
holds 'nothing is left' test ! -e nowhere.html
if [ -e "$TEXT/config.json" ]; then
    run 0 'data inspect: tokens' data inspect seen.jsonl --model "$TEXT" --max-len 3 --json
    says out '"longer": '
fi

# ------------------------------------- rows dealt out, copied, turned into others
head -n 60 seen.jsonl >rows.jsonl
run 0 'data split' data split rows.jsonl --out parts --stratify label --json
valid_json out classes
run 2 'data split: there already' data split rows.jsonl --out parts
says err 'train.jsonl exists already: --overwrite'
run 0 'data split: prefix' data split rows.jsonl --out parts- --ratio 2,1 --group text
holds 'data split: sizes' [ "$(cat parts-train.jsonl parts-valid.jsonl | wc -l)" -eq 60 ]
holds 'data split: two sides' [ ! -e parts-test.jsonl ]
run 3 'data split: no such column' data split rows.jsonl --out absent --stratify stars
says err 'rows.jsonl line 1: no column "stars"'
run 3 'data split: broken row' data split seen.jsonl --out absent
says err 'seen.jsonl line 63'
holds 'data split: nothing is left' [ ! -e absent ]
run 2 'data split: ratio' data split rows.jsonl --out absent --ratio 0.5,0.1
run 0 'data split: only told' data split rows.jsonl --group text
holds 'data split: nothing written' [ ! -e train.jsonl ]
run 0 'data augment' data augment parts/train.jsonl --out more.jsonl --copies 2 --eval parts/valid.jsonl
says out 'added to them'
run 0 'data augment --json' data augment more.jsonl --out again.jsonl --methods noise --json
valid_json out guarded
run 2 'data augment: method' data augment rows.jsonl --out absent --methods shuffle
run 2 'data augment: synonyms' data augment rows.jsonl --out absent --methods synonyms
run 3 'data augment: thesaurus' data augment rows.jsonl --out absent --thesaurus nowhere.dat
holds 'data augment: nothing is left' [ ! -e absent ]
printf '# FAQ\n\n## Is it free?\n\nYes.\n\nQ: And good?\nA: Yes.\n' >faq.md
run 0 'data convert: FAQ' data convert faq.md --to alpaca --out faq.jsonl
holds 'data convert: pairs' [ "$(wc -l <faq.jsonl)" -eq 2 ]
run 0 'data convert' data convert faq.jsonl --to messages --out chats.jsonl
run 0 'data convert: back' data convert chats.jsonl --to alpaca --out back.jsonl --json
valid_json out kept
holds 'data convert: the same' cmp faq.jsonl back.jsonl
run 2 'data convert: format' data convert faq.jsonl --to chatml --out absent
run 3 'data convert: no second answer' data convert faq.jsonl --to preference --out absent
says err 'faq.jsonl line 1: preference cannot hold'
run 3 'data convert: no questions' data convert rows.jsonl --to messages --out absent
holds 'data convert: nothing is left' [ ! -e absent ]

# ------------------------------------------------------------------ labels
printf 'text,n\none,1\ntwo,2\nthree,3\nfour,4\n' >some.csv
label() { # KEYS OUT OPTIONS...
    keys=$1
    out=$2
    shift 2
    printf '%s' "$keys" | "$PEFT" data label some.csv --labels good,bad --out "$out" "$@" >out 2>err
}
holds 'data label: three keys' label gsb ann.jsonl --by ann --json
valid_json out labelled
says ann.jsonl '^{"text": "one", "n": "1", "label": "good", "labeller": "ann"}$'
says ann.jsonl '"three", .*"bad"'
says err '3 of 4\|2 of 4 labelled, 1 skipped'
holds 'data label: goes on, takes back' label gu1 ann.jsonl --by ann --quiet
says ann.jsonl '"two", .*"good"'
label gbbgq eve.jsonl
holds 'data label: all of them' test "$(wc -l <eve.jsonl)" -eq 4
run 2 'data label: where to' data label some.csv --labels a,b
run 2 'data label: which labels' data label some.csv --out never.jsonl
run 2 'data label: of another file' data label seen.jsonl --labels good,bad --out ann.jsonl \
    --limit 5
run 3 'data label: no file' data label nowhere.csv --labels a,b --out never.jsonl
holds 'nothing is left of those' test ! -e never.jsonl
run 0 'data agree' data agree ann.jsonl eve.jsonl --out most.jsonl
says out "Cohen's kappa"
says out "Fleiss' kappa"
run 0 'data agree --json' data agree ann.jsonl eve.jsonl --json
valid_json out fleiss_kappa
run 2 'data agree: one file' data agree ann.jsonl
run 3 'data agree: nothing in common' data agree ann.jsonl seen.jsonl
run 2 'data faults: by which model' data faults seen.jsonl
if [ -e "$TEXT/config.json" ]; then
    run 0 'data faults' data faults seen.jsonl --limit 61 --model "$TEXT" --share 0.1 \
        --out suspects.jsonl --clean rest.jsonl
    says out 'labels are suspects'
    says suspects.jsonl '"likely": '
    holds 'every row is in one of them' test "$(cat suspects.jsonl rest.jsonl | wc -l)" -eq 61
    run 0 'data faults --json' data faults seen.jsonl --limit 61 --model "$TEXT" --json
    valid_json out faults
    run 2 'data faults: options' data faults seen.jsonl --model "$TEXT" --rank size
fi
if [ -n "$HAVE_PYTHON" ]; then
    holds 'data label on a terminal' python3 "$ROOT/tests/terminal.py" "$PEFT"
fi

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
