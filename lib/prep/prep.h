/* Rank 8: data preparation, above the public functions of the library: what is needed of a
 * model goes through peft.h.  A shared library of the kit has a copy of base/ and of what
 * else it includes, whose state is not the other library's. */
#ifndef PREP_PREP_H
#define PREP_PREP_H

#include "base/host.h"
#include "base/json.h"
#include "base/opts.h"
#include "base/pool.h"
#include "data/row.h"
#include "peft_data.h"

/* A public function of the kit returns kit_end(rc): the reason becomes the one that
 * peft_errmsg tells. */
static inline int32_t kit_end(int rc)
{
    return rc < 0 && *error_message() ? peft_fail(rc, error_message()) : rc;
}
#define KIT_ARG(cond, ...) \
    do { \
        error_clear(); \
        if (!(cond)) return kit_end(fail(PEFT_EARG, __VA_ARGS__)); \
    } while (0)
/* How rows are read, as data/row.h takes it. */
static inline struct source_opts source_of(const peft_source_opts *o)
{
    return o ? (struct source_opts){.columns = o->columns, .table = o->table, .limit = o->limit,
                                  .chunk = o->chunk}
             : (struct source_opts){0};
}
/* A function of peft.h failed: its reason becomes ours, so that context can be put before. */
static inline int kit_failed(int32_t rc)
{
    return fail(rc, "%s", peft_errmsg());
}

#endif
