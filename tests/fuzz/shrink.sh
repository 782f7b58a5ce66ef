#!/bin/sh
# Takes into tests/fuzz/corpus a sample of what covers all that was found: at most
# 30 files of 1.5 KB a target, beside golden* and crash*.
# Usage: tests/fuzz/shrink.sh TARGET...     (after tests/fuzz/run.sh)
cd "$(dirname "$0")/../.." || exit 1
for name in "$@"; do
    corpus=tests/fuzz/corpus/$name
    least=build/fuzz/least/$name
    rm -rf "$least"
    mkdir -p "$least" "$corpus"
    build/fuzz/fuzz_"$name" -set_cover_merge=1 -max_len=4096 "$least" "build/fuzz/found/$name" \
        "$corpus" >/dev/null 2>&1 || exit 1
    find "$corpus" -type f ! -name 'golden*' ! -name 'crash*' -exec rm {} +
    # Thirty of all sizes.
    find "$least" -type f -size -1500c -printf '%s %f\n' | sort -n |
    awk '{ f[NR] = $2 } END { for (i = 1; i <= NR; i++)
        if (int(i * 30 / NR) > int((i - 1) * 30 / NR)) print f[i] }' |
    while read -r f; do cp "$least/$f" "$corpus/$(echo "$f" | cut -c1-12)"; done
    echo "$name: $(ls "$corpus" | wc -l) files, $(cat "$corpus"/* | wc -c) bytes"
done
