#!/bin/sh
# Style: 100 columns, no tabs, no trailing space, files of at most 800 lines
# (public headers: 1200),
# functions of at most 70, and calls that a library must not make.
# Usage: tests/style.sh
cd "$(dirname "$0")/.." || exit 2

find lib include tests tools examples bench -type f \
    \( -name '*.[ch]' -o -name '*.inc' -o -name '*.def' \) |
LC_ALL=C sort | LC_ALL=C xargs awk '
function bad(why) {
    printf "%s:%d: %s\n", FILENAME, FNR, why
    failed = 1
}
# The line without comments and string literals; `inside` is kept over lines.
function code_of(s,    out, at) {
    out = ""
    while (s != "") {
        if (inside) {
            at = index(s, "*/")
            if (!at) return out
            s = substr(s, at + 2)
            inside = 0
        } else {
            at = index(s, "/*")
            if (!at) { out = out s; break }
            out = out substr(s, 1, at - 1)
            s = substr(s, at + 2)
            inside = 1
        }
    }
    gsub(/\\./, "", out)
    gsub(/"[^"]*"/, "\"\"", out)
    return out
}
BEGIN {
    heap = "malloc|calloc|realloc|aligned_alloc|free|strdup|strndup"
    other = "v?f?printf|puts|fputs|putchar|perror|_?_?exit|abort|assert|strcpy|strcat|stpcpy" \
            "|v?sprintf|strtok|atoi|atol|atoll|atof|gets|getenv|setenv|putenv|setlocale|signal" \
            "|sigaction|system|fork|fopen|alloca|s?rand|strerror|chdir|umask"
    edge = "(^|[^A-Za-z0-9_.>])"
}
FNR == 1 {
    inside = 0
    start = 0
    files++
    lib = FILENAME ~ /^lib\// || FILENAME ~ /^include\//
}
length($0) > 100 { bad(length($0) " columns, at most 100") }
/\t/ { bad("tab") }
/[ \t\r]$/ { bad("space at the end of the line") }
FNR == (FILENAME ~ /include\// ? 1201 : 801) { bad("more than " FNR - 1 " lines") }
/TODO|FIXME|XXX[ :]/ { bad("unfinished work") }
{
    code = code_of($0)
    if (lib && FILENAME !~ /^lib\/model\/arch\// &&
        code ~ /(==|!=)[ ]*&?arch_[a-z]|cmp\([^;]*arch->name/)
        bad("what a family needs belongs into its description: " $0)
    if (lib && code ~ /\/\//) bad("comments are written /* so */")
    if (lib && code ~ edge "(" other ")[ ]*\\(") bad("banned call: " $0)
    if (lib && FILENAME != "lib/base/mem.c" && code ~ edge "(" heap ")[ ]*\\(")
        bad("only base/mem.c allocates: " $0)
    if (lib && code ~ /#[ ]*include[ ]*<(complex|threads|assert)\.h>/) bad("banned header")
}
lib && /^\{/ { start = FNR }
lib && /^\}/ && start {
    if (FNR - start - 1 > 70) bad("function of " FNR - start - 1 " lines, at most 70")
    start = 0
}
END {
    printf "style: %d files, %s\n", files, failed ? "not in order" : "in order"
    exit failed
}'
