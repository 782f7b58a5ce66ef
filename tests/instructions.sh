#!/bin/sh
# Instructions of tiny training steps and an answer, counted by valgrind, against the figures in
# instructions.txt: more than 5 % above is a failure.  They depend on the compiler, whose
# name and version begin each line, and on nothing else that varies: one thread, built-in
# products, a fixed level of kernels.  `make instructions` writes them anew.
# Usage: tests/instructions.sh [--write]
cd "$(dirname "$0")/.." || exit 1
PEFT=${BUILD:-build/release}/peft
FIGURES=tests/instructions.txt
passed=0
failed=0

skip() { echo "instructions: skipped, $*"; echo "0 passed, 0 failed"; exit 0; }

[ "$(uname -sm)" = "Linux x86_64" ] || skip "figures are for Linux on x86-64"
command -v valgrind >/dev/null || skip "valgrind is not there (make deps)"
command -v readelf >/dev/null || skip "readelf is not there"
[ -z "${CFLAGS:-}" ] || skip "CFLAGS are not the usual ones"
compiler=$(readelf -p .comment "$PEFT" | sed -n 's/.*GCC: .* \([0-9]*\)\.[0-9.]*$/gcc-\1/p
    s/.*clang version \([0-9]*\)\..*/clang-\1/p' | tail -n 1)
[ "${1:-}" = --write ] || grep -q "^$compiler " $FIGURES ||
    skip "no figures for ${compiler:-this compiler} (make instructions)"

# count FUNCTION ARGUMENTS...: instructions within a function of the library.
count() {
    within=$1
    shift
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect="$within" "$PEFT" \
        "$@" --blas none --threads 1 2>&1 | sed -n 's/.*Collected : *\([0-9]*\).*/\1/p'
}

# figure NAME FUNCTION ARGUMENTS...
figure() {
    name=$1
    shift
    now=$(count "$@")
    if [ -z "$now" ]; then
        echo "FAILED  $name: nothing was counted"
        failed=$((failed + 1))
        return
    fi
    echo "$compiler $name $now" >>build/instructions.txt
    before=$(sed -n "s/^$compiler $name //p" $FIGURES)
    [ -n "$before" ] || before=$now
    if [ "$((now * 100))" -gt "$((before * 105))" ]; then
        echo "FAILED  $name: $now instructions, $before are on record"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + 1))
    [ "$((now * 100))" -ge "$((before * 95))" ] ||
        echo "$name: $now instructions, fewer than the $before on record (make instructions)"
}

step="peft_train_step bench tests/golden/tiny/llama --steps 1 --length 32 --batch 2"
answer="peft_generate generate tools/tiny/model --raw --prompt word --max-tokens 16"
: >build/instructions.txt
if grep -qw avx2 /proc/cpuinfo; then
    figure lora $step --level avx2
    figure lora-q4_1 $step --level avx2 --quant q4_1
    figure full $step --level avx2 --method full
    figure answer-q4_1 $answer --level avx2 --quant q4_1
fi
figure lora-c $step --level c
if [ "${1:-}" = --write ]; then
    { grep -v "^$compiler " $FIGURES; cat build/instructions.txt; } >build/figures.txt
    mv build/figures.txt $FIGURES
    cat $FIGURES
    exit 0
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
