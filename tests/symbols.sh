#!/bin/sh
# Symbols: a library gives out peft_* alone, and uses nothing that prints, ends
# the process, or reads or changes what belongs to all of it.
# Usage: tests/symbols.sh build/libpeft.so | build/libpeft.a
lib=$1
[ -f "$lib" ] || { echo "symbols: no such file: $lib" >&2; exit 2; }
case $lib in
*.a) flags=-g ;;
*) flags=-D ;;
esac
defined=$(nm $flags --defined-only "$lib") || exit 2
undefined=$(nm $flags --undefined-only "$lib") || exit 2
failed=0

# Names may carry a version ("@@V1"), and macOS puts "_" before them.
out=$(printf '%s\n' "$defined" | awk 'NF == 3 && $2 != "A" { sub(/@.*/, "", $3); print $3 }' |
      grep -Ev '^(_?peft_[a-z0-9_]+|_init|_fini|_edata|_end|__bss_start)$')
if [ -n "$out" ]; then
    echo "$lib gives out:" $out
    failed=1
fi
count=$(printf '%s\n' "$defined" | grep -c ' _*peft_')
if [ "$count" -lt 1 ]; then
    echo "$lib gives out $count peft_ functions"
    failed=1
fi

banned='exit|_exit|_Exit|quick_exit|abort|__assert_fail|atexit|raise|kill'
banned="$banned|(__)?v?f?printf(_chk)?|puts|putchar|putc|fputs|fputc|fwrite|perror"
banned="$banned|stdout|stderr|fopen(64)?|popen|system|fork|execve?|execvp"
banned="$banned|getenv|secure_getenv|setenv|putenv|unsetenv|setlocale|signal|sigaction"
banned="$banned|chdir|umask|srand|rand|srandom|feenableexcept|fesetround"
in=$(printf '%s\n' "$undefined" | awk '{ sub(/@.*/, "", $NF); print $NF }' |
     grep -Ex "_?($banned)" | LC_ALL=C sort -u)
if [ -n "$in" ]; then
    echo "$lib uses:" $in
    failed=1
fi
if [ $failed = 0 ]; then echo "symbols: $lib: $count functions, in order"; fi
exit $failed
