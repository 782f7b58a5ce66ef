#!/bin/sh
# Builds tests for another processor and runs them in qemu's user mode.  Where the
# compiler or the emulator is missing it says so and ends well.
# Usage: tools/cross.sh PREFIX BUILD TEST...      (make cross)
prefix=$1
build=$2
shift 2
cpu=${prefix%%-*}
emulator=$(command -v "qemu-$cpu-static" || command -v "qemu-$cpu")
if ! command -v "${prefix}gcc" >/dev/null || [ -z "$emulator" ]; then
    echo "cross: skipped, ${prefix}gcc or qemu-$cpu is missing" \
        "(Debian: gcc-aarch64-linux-gnu, qemu-user-static)"
    exit 0
fi
srcs=$(echo lib/base/*.c lib/kernel/*.c lib/graph/*.c lib/graph/*/*.c lib/api/error.c)
make MODE=release B="$build" SRCS="$srcs" CC="${CCACHE:-} ${prefix}gcc" AR="${prefix}ar" RELR= WITH_PCRE2=0 \
    WITH_PNG=0 WITH_JPEG=0 LDFLAGS=-static \
    LIBS='-lm -lpthread -ldl -Wl,--unresolved-symbols=ignore-all' cross-programs || exit 1
failed=0
for name in "$@"; do
    line=$("$emulator" "$build/$name" | tail -n 1)
    case $line in
    *" passed, 0 failed") echo "ok      $cpu $name: ${line%% *}" ;;
    *) failed=1; echo "FAILED  $cpu $name: $line" ;;
    esac
done
exit $failed
