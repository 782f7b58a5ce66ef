/* Replays the inputs of every fuzz target, tests/fuzz/corpus/NAME/.  Those that
 * are whole files, golden*, are also cut at every length, and every bit of
 * them is flipped: of longer ones an even sample.  What must hold is in fuzz.h;
 * a target ends the program when it does not. */
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>

#include "test.h"

#ifdef __SANITIZE_ADDRESS__
enum { CUTS = 500, FLIPS = 1500 };
#else
enum { CUTS = 2000, FLIPS = 6000 };
#endif

#define TARGET(name) int fuzz_##name(const uint8_t *data, size_t size);
TARGETS
#undef TARGET

static const struct target {
    const char *name;
    int (*run)(const uint8_t *data, size_t size);
} targets[] = {
#define TARGET(name) { #name, fuzz_##name },
    TARGETS
#undef TARGET
};
static const struct target *now;

/* In memory of its exact size, where the sanitizer sees a byte too many. */
static void run_copy(const uint8_t *data, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    CHECK(exact != NULL);
    if (!exact) return;
    memcpy(exact, data, n);
    now->run(exact, n);
    free(exact);
}

static void damage(uint8_t *data, size_t n)
{
    size_t step = n / CUTS + 1;
    for (size_t k = 0; k < n; k += step) run_copy(data, k);
    /* An odd step meets all bits of a byte. */
    step = n * 8 > FLIPS ? (n * 8 / FLIPS) | 1 : 1;
    for (size_t bit = 0; bit < n * 8; bit += step) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        run_copy(data, n);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void replay(const char *path, int whole)
{
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    if (!f) return;
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(n + 1);
    CHECK(data && fread(data, 1, n, f) == n);
    fclose(f);
    printf("%s\n", path);       /* the last one is what failed */
    fflush(stdout);
    run_copy(data, n);
    if (whole) damage(data, n);
    free(data);
}

static void run_target(void)
{
    char dir[128], path[400];
    int n = 0;
    snprintf(dir, sizeof(dir), "tests/fuzz/corpus/%s", now->name);
    DIR *d = opendir(dir);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        replay(path, !strncmp(e->d_name, "golden", 6));
        n++;
    }
    if (d) closedir(d);
    now->run((const uint8_t *)"", 0);
    CHECK(n > 0);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        now = &targets[i];
        RUN(run_target);
    }
    return TEST_END();
}
