#!/bin/sh
# Runs fuzz targets one after the other, each for SECONDS in all: a log that is
# there already counts.  Logs lie in $LOGS (build/fuzz/logs), what was found in
# build/fuzz/found, inputs that crash in build/fuzz/crash-NAME-*.
# Usage: tests/fuzz/run.sh SECONDS TARGET...     (after `make fuzz`)
cd "$(dirname "$0")/../.." || exit 1
LOGS=${LOGS:-build/fuzz/logs}
seconds=$1
shift
mkdir -p "$LOGS"
python3 tests/fuzz/seeds.py build/fuzz/seeds || exit 1
status=0
for name in "$@"; do
    found=build/fuzz/found/$name
    log=$LOGS/$name.log
    mkdir -p "$found" "build/fuzz/seeds/$name" "tests/fuzz/corpus/$name"
    dict=tests/fuzz/$name.dict
    [ -e "$dict" ] || dict=tests/fuzz/json.dict
    done=$(sed -n 's/^Done .* in \([0-9]*\) second.*/\1/p' "$log" 2>/dev/null |
           awk '{ n += $1 } END { print n + 0 }')
    left=$((seconds - done))
    if [ $left -gt 0 ]; then
        build/fuzz/fuzz_"$name" -max_total_time=$left -max_len=16384 -timeout=20 \
            -rss_limit_mb=2048 -dict="$dict" -artifact_prefix="build/fuzz/crash-$name-" \
            -print_final_stats=1 -reload=0 \
            "$found" "tests/fuzz/corpus/$name" "build/fuzz/seeds/$name" >>"$log" 2>&1 || {
            status=1
            echo "$name: FAILED, see $log"
        }
    fi
    awk -v name="$name" '/ cov: / { split($0, a, " cov: "); split(a[2], b, " "); cov = b[1] }
        /^Done / { n += $2; s += $(NF - 1) }
        END { printf "%-18s %10d runs %5d s  cov %d\n", name, n, s, cov }' "$log"
done
exit $status
