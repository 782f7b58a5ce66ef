#!/bin/sh
# Layers: a file includes its own folder and folders of lower rank, and of other
# folders only what is public there.  Each external library has one door.
# Usage: tests/layers.sh
cd "$(dirname "$0")/.." || exit 2

find lib -mindepth 2 -type f \( -name '*.[ch]' -o -name '*.inc' -o -name '*.def' \) |
LC_ALL=C sort | xargs awk '
BEGIN {
    n = split("base 0 kernel 1 graph 2 store 2 text 3 model 4 adapt 5 data 5 train 6 api 7 prep 8 judge 9", t, " ")
    for (i = 1; i < n; i += 2) rank[t[i]] = t[i + 1]
    n = split("graph/op.h model/site.h model/arch.h model/quantise.h model/vision.h train/quantise.h text/template.h text/unicode.h data/row.h data/image.h", t, " ")
    for (i = 1; i <= n; i++) public[t[i]] = 1
    door["cJSON.h"] = "lib/base/json.c"
    door["cblas.h"] = "lib/kernel/blas.c"
    door["utf8proc.h"] = "lib/text/"
    door["pcre2.h"] = "lib/text/regex.c"
    door["png.h"] = "lib/data/png.c"
    door["jpeglib.h"] = "lib/data/jpeg.c"
    door["sqlite3.h"] = "lib/data/sqlite.c"
}
function bad(why) {
    printf "%s:%d: %s: %s\n", FILENAME, FNR, name, why
    failed = 1
}
FNR == 1 {
    split(FILENAME, part, "/")
    own = part[2]
    files++
    if (!(own in rank)) { name = own; bad("folder without a rank") }
}
/^[ \t]*#[ \t]*include[ \t]*</ {
    name = $0
    sub(/^[^<]*</, "", name); sub(/>.*/, "", name)
    last = name
    sub(/.*\//, "", last)
    if (last in door && index(FILENAME, door[last]) != 1) bad("only " door[last] " may include it")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    name = $0
    sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
    if (name == "peft.h" || index(name, "/") == 0) next
    if (name ~ /\.\./) { bad("includes are written relative to lib/"); next }
    split(name, part, "/")
    other = part[1]
    if (other == own) next
    if (!(other in rank)) bad("not a folder of lib/")
    else if (rank[other] >= rank[own])
        bad(own " has rank " rank[own] " and must not include " other " of rank " rank[other])
    else if (other != "base" && other != "kernel" && name != other "/" other ".h" &&
             !(name in public))
        bad("is private to " other "/")
}
END {
    printf "layers: %d files, %s\n", files, failed ? "not in order" : "in order"
    exit failed
}'
