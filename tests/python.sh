#!/bin/sh
# The Python module on a tiny model: structs of the same size as in C, a whole
# training, and exceptions.  Ends with `N passed, N failed`.
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build/release}
LIBPEFT_LIBRARY=${LIBPEFT_LIBRARY:-$BUILD/libpeft.so}
[ -e "$LIBPEFT_LIBRARY" ] || LIBPEFT_LIBRARY=$BUILD/libpeft.dylib
PYTHONPATH=bindings/python
PYTHONDONTWRITEBYTECODE=1
export LIBPEFT_LIBRARY PYTHONPATH PYTHONDONTWRITEBYTECODE
if ! command -v python3 >/dev/null 2>&1; then
    echo "no python3: skipped"
    echo "0 passed, 0 failed"
    exit 0
fi
DIR=$(mktemp -d) || exit 1
trap 'rm -rf "$DIR"' EXIT

# What the C compiler says about every struct.
{
    echo '#include <stdio.h>'
    echo '#include "peft_data.h"'
    echo '#include "peft_judge.h"'
    echo 'int main(void) {'
    python3 -c 'from libpeft import _api, _kit
for name, kind in {**_api.STRUCTS, **_kit.STRUCTS}.items():
    print("    printf(\"%s %%zu\\n\", sizeof(%s));" % (name, name))
    for field, _ in kind._fields_:
        print("    printf(\"%s.%s %%zu\\n\", (size_t)&((%s *)0)->%s);" % (name, field, name, field))'
    echo '    return 0; }'
} >"$DIR/sizes.c"
${CC:-cc} -Iinclude -o "$DIR/sizes" "$DIR/sizes.c" && "$DIR/sizes" >"$DIR/sizes.txt"
python3 tests/python_module.py "$DIR"
