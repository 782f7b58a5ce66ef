#!/bin/sh
# Runs every test program of the build modes given, then the shell tests, and
# ends with one line `N passed, N failed`.  A program that ends without such a
# line of its own (a crash) counts as one failure.  What computes runs once more for
# each lesser processor that this one can stand for (PEFT_CPU of tests/test.h).
# Usage: tools/runtests.sh release asan
cd "$(dirname "$0")/.." || exit 1
BUILD=build/release
export BUILD
mkdir -p build
log=build/test.log
passed=0
failed=0

# count NAME STATUS: adds the summary line in the log; shows a failing log.
count() {
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' $log | tail -n 1)
    p=$(echo "$line" | sed -n 's/^\([0-9]*\) passed, .*/\1/p')
    f=$(echo "$line" | sed -n 's/^[0-9]* passed, \([0-9]*\) failed.*/\1/p')
    if [ -z "$line" ]; then
        if [ "$2" -eq 0 ]; then p=1 f=0; else p=0 f=1; fi
    elif [ "$2" -ne 0 ] && [ "$f" -eq 0 ]; then
        f=1
    fi
    passed=$((passed + p))
    failed=$((failed + f))
    if [ "$f" -eq 0 ]; then
        echo "ok      $1: $p"
    else
        echo "FAILED  $1: $f of $((p + f)), exit status $2"
        tail -n 40 $log
    fi
}

for mode in "$@"; do
    for source in tests/*/test_*.c; do
        [ -e "$source" ] || continue
        name=$(basename "$source" .c)
        "build/$mode/$name" >$log 2>&1
        count "$mode $name" $?
    done
done
# OpenBLAS is told the same.  The first kind that is there is this processor's own.
levels='gemm attn ops traces families methods train mixed'
own=
for cpu in amx avx512 avx2:Haswell neon generic:Nehalem; do
    kind=${cpu%%:*}
    core=
    [ "$kind" = "$cpu" ] || core=OPENBLAS_CORETYPE=${cpu#*:}
    PEFT_CPU=$kind $BUILD/test_metric >$log 2>&1 || continue
    if [ -z "$own" ]; then own=$kind; continue; fi
    for name in $levels; do
        env PEFT_CPU=$kind $core $BUILD/test_$name >$log 2>&1
        count "$kind test_$name" $?
    done
done
for script in tests/*.sh; do
    [ -e "$script" ] || continue
    case $script in
    */size.sh) bash "$script" $BUILD/libpeft.so >$log 2>&1 ;;
    */symbols.sh)
        { bash "$script" $BUILD/libpeft.so && bash "$script" $BUILD/libpeft_kit.so; } >$log 2>&1 ;;
    *) bash "$script" >$log 2>&1 ;;
    esac
    count "$script" $?
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
