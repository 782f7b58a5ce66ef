/* A read-only file system in memory.  Files have their exact size, so that the
 * address sanitizer sees a read one byte beyond.  The one folder is "dir". */
#ifndef TESTS_DISK_H
#define TESTS_DISK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

static struct file {
    char name[64];
    uint8_t *data;
    int64_t n;
} disk[16];

static struct file *file_at(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(disk); i++)
        if (disk[i].data && strcmp(disk[i].name, name) == 0) return &disk[i];
    return NULL;
}

static void disk_put(const char *name, const void *data, int64_t n)
{
    struct file *f = file_at(name);
    for (size_t i = 0; !f && i < ARRAY_LEN(disk); i++)
        if (!disk[i].data) f = &disk[i];
    if (!f) abort();
    free(f->data);
    snprintf(f->name, sizeof f->name, "%s", name);
    f->data = malloc(n ? (size_t)n : 1);
    f->n = n;
    if (n) memcpy(f->data, data, (size_t)n);
}

static void disk_puts(const char *name, const char *text)
{
    disk_put(name, text, (int64_t)strlen(text));
}

static void disk_clear(void)
{
    for (size_t i = 0; i < ARRAY_LEN(disk); i++) {
        free(disk[i].data);
        disk[i].data = NULL;
    }
}

static void *disk_open(void *ctx, const char *path, int32_t write, int32_t *err)
{
    (void)ctx;
    struct file *f = write ? NULL : file_at(path);
    if (!f) *err = write ? -EROFS : -ENOENT;
    return f;
}
static int64_t disk_length(void *ctx, void *file) { (void)ctx; return ((struct file *)file)->n; }
static int64_t disk_read(void *ctx, void *file, int64_t offset, void *to, int64_t n)
{
    (void)ctx;
    struct file *f = file;
    n = MIN(n, f->n - offset);
    memcpy(to, f->data + offset, (size_t)n);
    return n;
}
static int64_t disk_write(void *ctx, void *file, const void *from, int64_t n)
{
    (void)ctx, (void)file, (void)from, (void)n;
    return -EROFS;
}
static int32_t disk_done(void *ctx, void *file) { (void)ctx, (void)file; return 0; }
static const void *disk_map(void *ctx, void *file, int64_t n)
{
    (void)ctx, (void)n;
    return ((struct file *)file)->data;
}
static void disk_unmap(void *ctx, const void *at, int64_t n) { (void)ctx, (void)at, (void)n; }
static int32_t disk_rename(void *ctx, const char *a, const char *b)
{
    (void)ctx, (void)a, (void)b;
    return -EROFS;
}
static int32_t disk_change(void *ctx, const char *path) { (void)ctx, (void)path; return -EROFS; }
static int32_t disk_kind(void *ctx, const char *path)
{
    (void)ctx;
    return strcmp(path, "dir") == 0 ? 2 : file_at(path) != NULL;
}
static int32_t disk_list(void *ctx, const char *path, int32_t (*each)(void *, const char *),
                         void *arg)
{
    (void)ctx, (void)path;
    int32_t stop = 0;
    for (size_t i = 0; i < ARRAY_LEN(disk) && !stop; i++)
        if (disk[i].data && strncmp(disk[i].name, "dir/", 4) == 0)
            stop = each(arg, disk[i].name + 4);
    return stop;
}

static const struct peft_io disk_io = {
    .size = sizeof disk_io, .open = disk_open, .length = disk_length, .read = disk_read,
    .write = disk_write, .sync = disk_done, .close = disk_done, .map = disk_map,
    .unmap = disk_unmap, .rename = disk_rename, .remove = disk_change, .mkdir = disk_change,
    .sync_dir = disk_change, .kind = disk_kind, .list = disk_list};

#endif
