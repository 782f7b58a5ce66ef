/* A disk that becomes full: an io that writes `room` bytes, and what lies in kit_dir after. */
#ifndef TESTS_FULL_H
#define TESTS_FULL_H

#include <dirent.h>
#include <errno.h>

#include "kit.h"

static peft_io real;
static int64_t room;

static int64_t write_some(void *ctx, void *file, const void *from, int64_t n)
{
    room -= n;
    return room < 0 ? -ENOSPC : real.write(ctx, file, from, n);
}

static int files_there(void)
{
    DIR *d = opendir(kit_dir);
    int n = 0;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

#endif
