#!/bin/sh
# The library's size: without symbols at most a million bytes, as gcc builds it for
# 64-bit x86, where it has four sets of kernels.
# Usage: tests/size.sh build/release/libpeft.so
lib=$1
most=1000000
[ -f "$lib" ] || { echo "size: no such file: $lib" >&2; exit 2; }
case $(uname -sm) in
"Linux x86_64") ;;
*) echo "size: not held on $(uname -sm)"; exit 0 ;;
esac
if ! grep -qa 'GCC: (' "$lib"; then
    echo "size: not held with other compilers than gcc"
    exit 0
fi
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
${STRIP:-strip} -o "$out" "$lib" || exit 2
size=$(wc -c <"$out")
echo "size: $lib: $size bytes, at most $most"
[ "$size" -le "$most" ]
