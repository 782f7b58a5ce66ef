# What the examples share: the command, models and data, and a run with its settings chosen.
set -eu
cd "$(dirname "$0")/../.."
examples/real/fetch.sh
PEFT=${PEFT:-build/release/peft}
MINILM=build/models/minilm
SMOLLM2=build/models/SmolLM2-135M-Instruct.Q4_1.gguf
REAL=build/real
W=${W:-build/real/runs}

mkdir -p $W

split() { # NAME RATIO OPTIONS...
    name=$1 ratio=$2
    shift 2
    [ -d "$W/$name" ] || $PEFT data split "$REAL/$name.jsonl" --out "$W/$name" --ratio "$ratio" \
        --seed 1 "$@"
}
run() { # NAME MODEL TRAIN VALID OPTIONS...
    name=$1 model=$2 train=$3 valid=$4
    shift 4
    [ -f "$W/$name/report.html" ] || $PEFT train "$model" --data "$train" --eval "$valid" \
        --out "$W/$name" "$@"
}
