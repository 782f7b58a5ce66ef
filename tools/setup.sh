#!/bin/sh
# Installs what building needs and is not there: a C compiler, pkg-config, cJSON,
# utf8proc, libpng, libjpeg, PCRE2 and SQLite (optional: without them pictures of that
# kind, tokenizers with unusual expressions, or data bases are refused), valgrind (optional, for a test),
# and a good OpenBLAS in build/deps/libpeft.  Silent when nothing is missing.  OpenBLAS is
# chosen by its version and never by the processor of this machine, so that what is built
# here runs well elsewhere.
set -eu
cd "$(dirname "$0")/.."
DEPS=build/deps
CC=${CC:-cc}
case $(uname -s) in Darwin) DLL=dylib ;; *) DLL=so ;; esac
BLAS=$DEPS/libpeft/libopenblas.$DLL

say() { echo "setup: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

have_headers() {
    have "${CC%% *}" && have pkg-config && printf '#include <cJSON.h>\n#include <utf8proc.h>\n' |
        $CC $(pkg-config --cflags libcjson libutf8proc 2>/dev/null) -fsyntax-only -x c - 2>/dev/null
}
have_optional() { pkg-config --exists libpng libjpeg libpcre2-8 sqlite3 2>/dev/null; }
have_pip() { have python3 && python3 -m pip --version >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif have sudo; then sudo "$@"
    else say "not root and no sudo: cannot run $*"; return 1
    fi
}

install_packages() {
    if have apt-get; then
        set -- gcc libc6-dev make pkg-config libcjson-dev libutf8proc-dev libpng-dev \
            libjpeg-dev libpcre2-dev libsqlite3-dev ca-certificates valgrind
        have_pip || set -- "$@" python3 python3-pip
        say "apt-get install $*"
        export DEBIAN_FRONTEND=noninteractive
        as_root apt-get update -qq >/dev/null || say "apt-get update failed, going on"
        as_root apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    elif have dnf; then
        set -- gcc make pkgconf-pkg-config cjson-devel utf8proc-devel libpng-devel \
            libjpeg-turbo-devel pcre2-devel sqlite-devel libasan libubsan valgrind
        have_pip || set -- "$@" python3 python3-pip
        say "dnf install $*"
        as_root dnf install -q -y "$@"
    elif have brew; then
        set -- pkgconf cjson utf8proc libpng jpeg-turbo pcre2 sqlite openblas
        say "brew install $*"
        brew install -q "$@"
    else
        say "please install: a C compiler, make, pkg-config, python3 with pip, and the"
        say "development files of cJSON (libcjson) and utf8proc (libutf8proc)"
        return 1
    fi
}

# The system's OpenBLAS in its pthreads flavour (the `p` of the file name); prints
# version and file, the newest last.  Other flavours cannot be called by many
# threads at once.
system_blas() {
    for f in /usr/lib/*/openblas-pthread/libopenblasp-r*.so /usr/lib64/libopenblasp-r*.so \
        /usr/lib/libopenblasp-r*.so /opt/homebrew/opt/openblas/lib/libopenblasp-r*.dylib \
        /usr/local/opt/openblas/lib/libopenblasp-r*.dylib; do
        [ -e "$f" ] || continue
        echo "$f" | sed -n 's/.*-r\([0-9]*\)\.\([0-9]*\)\.\([0-9]*\)\..*/\1 \2 \3/p' |
            while read -r a b c; do echo "$((a * 10000 + b * 100 + c)) $f"; done
    done | sort -n
}

# Puts a library in place if its own dependencies are there.
take_blas() {
    if have ldd && ldd "$1" 2>/dev/null | grep -q 'not found'; then
        say "$1 lacks libraries: $(ldd "$1" | grep 'not found' | tr -s '\t\n' ' ')"
        return 1
    fi
    mkdir -p "$DEPS/libpeft"
    cp -L "$1" "$BLAS.part" && mv "$BLAS.part" "$BLAS"
}

# 0.3.28 knows the processors of 2024; 0.3.30 has a race in its products.
wheel_blas() {
    have_pip || return 1
    say "fetching OpenBLAS (the PyPI package scipy-openblas32)"
    rm -rf "$DEPS/wheel"
    mkdir -p "$DEPS/wheel"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$DEPS/wheel" 'scipy-openblas32>=0.3.28,!=0.3.30.*' || return 1
    python3 -m zipfile -e "$DEPS"/wheel/*.whl "$DEPS/wheel" || return 1
    take_blas "$DEPS/wheel/scipy_openblas32/lib/libscipy_openblas.$DLL" || return 1
    rm -rf "$DEPS/wheel"
}

install_blas() {
    best=$(system_blas | grep -v '^330 ' | tail -n 1)
    version=${best%% *}
    file=${best#* }
    if [ "${version:-0}" -ge 328 ] && take_blas "$file"; then return; fi
    if wheel_blas; then return; fi
    if [ -z "$best" ] && have apt-get; then
        as_root apt-get install -qq -y --no-install-recommends libopenblas0-pthread \
            >/dev/null 2>&1 || true
        best=$(system_blas | grep -v '^330 ' | tail -n 1)
        file=${best#* }
    fi
    if [ -n "$best" ] && take_blas "$file"; then
        say "using the system's older OpenBLAS ($file); it may not know this processor"
    else
        say "no OpenBLAS: the built-in matrix product will be used, which is slower"
    fi
}

if ! have make || ! have_headers; then
    install_packages
    have_headers || { say "cJSON or utf8proc still cannot be used with $CC"; exit 1; }
fi
if ! have_optional; then
    install_packages || true
    have_optional || say "no libpng, libjpeg, PCRE2 or SQLite: what needs them will be refused"
fi
# Valgrind counts instructions in a test.
if ! have valgrind && { have apt-get || have dnf; }; then
    install_packages || say "no valgrind: tests/instructions.sh will be skipped"
fi
if [ ! -e "$BLAS" ]; then
    if ! have_pip && { have apt-get || have dnf; }; then install_packages || true; fi
    install_blas
fi
