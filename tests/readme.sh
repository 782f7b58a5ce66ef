#!/bin/sh
# The programs in README.md compile and run as they stand there, and its table of what
# works is the one that the code gives.
cd "$(dirname "$0")/.." || exit 1
ROOT=$PWD
BUILD=$PWD/${BUILD:-build/release}
DIR=$(mktemp -d) || exit 1
trap 'rm -rf "$DIR"' EXIT
passed=0
failed=0
check() {
    name=$1
    shift
    if "$@" >"$DIR/log" 2>&1; then passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        tail -n 20 "$DIR/log"
    fi
}
block() { sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/p" README.md | sed '/^```/d'; }

block c >"$DIR/readme.c"
block python >"$DIR/readme.py"
cd "$DIR" || exit 1
i=0
while [ $i -lt 8 ]; do
    echo "{\"input_ids\": [1, $((i + 9)), $((i + 12)), $((i + 15))]}"
    i=$((i + 1))
done >chats.jsonl

cp "$ROOT/README.md" "$DIR/again.md"
check 'the table can be made' sh -c 'cd "$1" && BUILD="$2" tools/readme.sh "$3"' - "$ROOT" "$BUILD" \
    "$DIR/again.md"
check 'the table of what works is the code'\''s (tools/readme.sh)' \
    cmp "$ROOT/README.md" "$DIR/again.md"
check '15 lines of C' test "$(wc -l <readme.c)" -le 15
check '8 lines of Python' test "$(wc -l <readme.py)" -le 8
# The name in the README is a file's; a folder may have it too.
cp -R "$ROOT/tests/golden/tiny/llama" model.gguf
libs="$(pkg-config --libs libcjson libutf8proc 2>/dev/null || echo -lcjson -lutf8proc) \
    $(pkg-config --libs $(cat "$BUILD/optional" 2>/dev/null) 2>/dev/null)"
check 'the C program compiles' "${CC:-cc}" -std=c11 -Wall -Wextra -Werror -I"$ROOT/include" readme.c \
    "$BUILD/libpeft.a" $libs -lm -lpthread -ldl -o readme
check 'the C program runs' ./readme
check 'and saves an adapter' test -s adapter/adapter_model.safetensors
if command -v python3 >/dev/null 2>&1; then
    rm -rf adapter
    # The golden model has no tokenizer, so it trains but cannot answer.
    if [ -e "$ROOT/tools/tiny/model/config.json" ]; then
        rm -rf model.gguf
        cp -R "$ROOT/tools/tiny/model" model.gguf
    else
        sed '/generate/d' readme.py >short.py && mv short.py readme.py
    fi
    check 'the Python program runs' env PYTHONPATH="$ROOT/bindings/python" \
        PYTHONDONTWRITEBYTECODE=1 LIBPEFT_LIBRARY="$BUILD/libpeft.so" python3 readme.py
    check 'and saves an adapter too' test -s adapter/adapter_model.safetensors
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
