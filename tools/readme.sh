#!/bin/sh
# Writes the table of what works into README.md, from the tables in the code.
# Usage: tools/readme.sh [README.md]     (BUILD: where `peft` is)
cd "$(dirname "$0")/.." || exit 1
PEFT=${BUILD:-build/release}/peft
file=${1:-README.md}
new=$(mktemp) || exit 1
trap 'rm -f "$new"' EXIT
{
    sed '/^<!-- peft list -->$/q' "$file"
    echo '| | |'
    echo '| --- | --- |'
    for table in families formats types tokenizers heads; do
        "$PEFT" list $table --markdown || exit 1
    done
    sed -n '/^<!-- end -->$/,$p' "$file"
} >"$new" || exit 1
cat "$new" >"$file"
