/* Groups are named by their first rows.  Equal values are neighbours once they are sorted.
 * Where both a column and texts make groups, rows take the least name among those they share
 * one with until no name changes any more: connected components by least labels, with the
 * shortcut of Shiloach and Vishkin (1982). */
#include "prep/groups.h"

#include "base/rng.h"

void groups_begin(struct groups *g, struct scratch *to, int64_t memory)
{
    g->to = to;
    g->memory = memory;
    sorter_begin(&g->columns, to, 2, 0, memory / 8);
    sorter_begin(&g->texts, to, 2, 0, memory / 8);
    spill_begin(&g->classes, to, sizeof(uint32_t), memory / 32);
    near_begin(&g->near, to, memory / 8 * 5);
}

void groups_end(struct groups *g)
{
    sorter_free(&g->columns);
    sorter_free(&g->texts);
    near_end(&g->near);
    spill_close(&g->next);
    spill_free(&g->classes);
    spill_free(&g->of);
    spill_free(&g->sides);
}

int groups_add(struct groups *g, uint64_t column, uint64_t text, const struct near_row *near,
               uint32_t class)
{
    uint64_t row = (uint64_t)g->n++;
    int rc = spill_put(&g->classes, &class);
    if (rc >= 0 && g->by_column) rc = sorter_put(&g->columns, column, row);
    if (rc >= 0 && g->by_text) rc = sorter_put(&g->texts, text, row);
    return rc >= 0 && g->by_text ? near_add(&g->near, near) : rc;
}

/* --- lists of a name for each row */

static void names_begin(struct groups *g, struct spill *s)
{
    spill_begin(s, g->to, sizeof(uint32_t), g->memory / 32);
}

/* From (row << 32 | name), sorted here. */
static int list_names(struct sorter *s, struct spill *out)
{
    uint64_t e;
    int rc = sorter_turn(s);
    while (rc >= 0 && (rc = sorter_next(s, &e)) > 0) rc = spill_put(out, &(uint32_t){(uint32_t)e});
    return rc < 0 ? rc : spill_turn(out);
}

/* Of rows with one key the first is the name of all. */
static int name_equal(struct groups *g, struct sorter *keys, struct spill *out)
{
    struct sorter names;
    uint64_t e[2], first[2] = {0};
    bool any = false;
    sorter_begin(&names, g->to, 1, 0, g->memory / 8);
    names_begin(g, out);
    int rc = sorter_turn(keys);
    while (rc >= 0 && (rc = sorter_next(keys, e)) > 0) {
        if (!any || e[0] != first[0]) memcpy(first, e, sizeof e);
        any = true;
        rc = sorter_put(&names, e[1] << 32 | first[1], 0);
    }
    sorter_free(keys);
    if (rc >= 0) rc = list_names(&names, out);
    sorter_free(&names);
    return rc;
}

/* Texts that are nearly equal have the name of the one that all of them are like; of equal ones
 * the first is searched. */
static int name_alike(struct groups *g)
{
    struct spill likes = {.size = 0}, now;
    struct spill_reader rows;
    struct near_like room;
    const void *row;
    int rc = PEFT_OK;
    spill_read(&rows, &g->of);
    while (rc >= 0 && (rc = spill_next(&rows, &row)) > 0)
        if (*(const uint32_t *)row != rows.at - 1) near_leave_out(&g->near, rows.at - 1);
    spill_close(&rows);
    names_begin(g, &now);
    if (rc >= 0) rc = near_search(&g->near, &likes);
    spill_read(&rows, &g->of);
    while (rc >= 0 && (rc = spill_next(&rows, &row)) > 0) {
        uint32_t name = *(const uint32_t *)row;
        const struct near_like *like = spill_at(&likes, name, &room);
        if (like && like->of != NO_ROW) name = like->of;
        rc = like ? spill_put(&now, &name) : PEFT_EIO;
    }
    spill_close(&rows);
    spill_free(&likes);
    near_end(&g->near);
    spill_free(&g->of);
    g->of = now;
    return rc < 0 ? rc : spill_turn(&g->of);
}

/* (a's value << 32 | b's, row) of every row, in the order of a and b. */
static int sort_pairs(struct groups *g, struct spill *a, struct spill *b, struct sorter *out)
{
    struct spill_reader x, y;
    const void *p, *q = NULL;
    int rc = PEFT_OK;
    sorter_begin(out, g->to, 2, 0, g->memory / 8);
    spill_read(&x, a);
    spill_read(&y, b);
    while (rc >= 0 && (rc = spill_next(&x, &p)) > 0 && (rc = spill_next(&y, &q)) > 0)
        rc = sorter_put(out, (uint64_t)*(const uint32_t *)p << 32 | *(const uint32_t *)q,
                        (uint64_t)y.at - 1);
    spill_close(&x);
    spill_close(&y);
    return rc < 0 ? rc : sorter_turn(out);
}

/* Rows of one part take the least name there, or that one's own: 1 = some name has changed. */
static int take_least(struct groups *g, struct spill *parts)
{
    struct sorter pairs, names;
    struct spill now;
    uint64_t e[2], first = 0;
    uint32_t room;
    int changed = 0, rc = sort_pairs(g, parts, &g->of, &pairs);
    sorter_begin(&names, g->to, 1, 0, g->memory / 8);
    names_begin(g, &now);
    for (bool any = false; rc >= 0 && (rc = sorter_next(&pairs, e)) > 0; any = true) {
        if (!any || e[0] >> 32 != first >> 32) first = e[0];
        const uint32_t *name = spill_at(&g->of, (uint32_t)first, &room);
        changed |= name && *name != (uint32_t)e[0];
        rc = name ? sorter_put(&names, e[1] << 32 | *name, 0) : PEFT_EIO;
    }
    sorter_free(&pairs);
    if (rc >= 0) rc = list_names(&names, &now);
    sorter_free(&names);
    spill_free(&g->of);
    g->of = now;
    return rc < 0 ? rc : changed;
}

/* What either makes one group. */
static int join_names(struct groups *g, struct spill *columns)
{
    struct spill texts;
    struct spill_reader r;
    const void *name;
    int rc = PEFT_OK;
    names_begin(g, &texts);
    spill_read(&r, &g->of);
    while (rc >= 0 && (rc = spill_next(&r, &name)) > 0) rc = spill_put(&texts, name);
    spill_close(&r);
    if (rc >= 0) rc = spill_turn(&texts);
    for (int more = 1; rc >= 0 && more;) {
        rc = more = take_least(g, columns);
        if (rc >= 0) rc = take_least(g, &texts);
        more |= rc;
    }
    spill_free(&texts);
    return rc;
}

int groups_find(struct groups *g)
{
    struct spill columns = {.size = 0};
    int rc = spill_turn(&g->classes);
    if (rc >= 0 && g->by_text) rc = name_equal(g, &g->texts, &g->of);
    if (rc >= 0 && g->by_text) rc = name_alike(g);
    if (rc >= 0 && g->by_column)
        rc = name_equal(g, &g->columns, g->by_text ? &columns : &g->of);
    if (rc >= 0 && columns.size) rc = join_names(g, &columns);
    spill_free(&columns);
    return rc;
}

/* --- dealing */

struct group { uint32_t first, cells; int64_t at; };        /* `cells`, from `at` on */
struct dealing {
    struct groups *g;
    uint64_t seed, rows;            /* rows of `now` */
    struct sorter order;            /* groups by size */
    struct spill groups, cells;
    struct group now;
    struct cell cell;
};

static int end_cell(struct dealing *d)
{
    if (!d->cell.n) return PEFT_OK;
    int rc = spill_put(&d->cells, &d->cell);
    d->cell.n = 0;
    d->now.cells++;
    return rc;
}

static int end_group(struct dealing *d)
{
    uint64_t i = (uint64_t)d->groups.n;
    uint32_t tie = rng_u32(d->seed, rng_stream(RNG_SPLIT, 1), i);
    int rc = end_cell(d);
    if (rc < 0 || !d->rows) return rc;
    rc = sorter_put(&d->order, (UINT32_MAX - d->rows) << 32 | tie, i);
    d->rows = 0;
    return rc < 0 ? rc : spill_put(&d->groups, &d->now);
}

/* A group for each name, in their order, and its cells. */
static int list_groups(struct dealing *d)
{
    struct sorter pairs;
    uint64_t e[2];
    int rc = sort_pairs(d->g, &d->g->of, &d->g->classes, &pairs);
    while (rc >= 0 && (rc = sorter_next(&pairs, e)) > 0) {
        uint32_t name = (uint32_t)(e[0] >> 32), class = (uint32_t)e[0];
        if (!d->rows || name != d->now.first) {
            rc = end_group(d);
            d->now = (struct group){.first = name, .at = d->cells.n};
        } else if (class != d->cell.class) {
            rc = end_cell(d);
        }
        d->cell.class = class;
        d->cell.n++;
        d->rows++;
    }
    sorter_free(&pairs);
    if (rc >= 0) rc = end_group(d);
    if (rc >= 0) rc = sorter_turn(&d->order);
    if (rc >= 0) rc = spill_turn(&d->groups);
    return rc < 0 ? rc : spill_turn(&d->cells);
}

/* One group after the other; `out`: (first row << 32 | side). */
static int deal_all(struct dealing *d, struct sorter *out, void *ctx,
                    int (*deal)(void *, const struct cell *, int64_t, int64_t))
{
    struct buf cells;
    uint64_t e[2];
    int64_t left = d->groups.n;
    int rc = PEFT_OK;
    buf_init(&cells, &d->g->to->host->mem);
    while (rc >= 0 && (rc = sorter_next(&d->order, e)) > 0) {
        struct group room;
        struct cell cell;
        const struct group *group = spill_at(&d->groups, (int64_t)e[1], &room);
        buf_clear(&cells);
        for (uint32_t i = 0; group && i < group->cells; i++) {
            const struct cell *c = spill_at(&d->cells, group->at + i, &cell);
            if (c) buf_put(&cells, c, sizeof *c);
            else group = NULL;
        }
        rc = group ? buf_check(&cells) : PEFT_EIO;
        if (rc < 0) break;
        rc = deal(ctx, (const struct cell *)(const void *)cells.data, group->cells, left--);
        if (rc >= 0) rc = sorter_put(out, (uint64_t)group->first << 32 | (uint64_t)rc, 0);
    }
    buf_free(&cells);
    return rc;
}

/* At the place of each group's first row its side. */
static int list_sides(struct groups *g, struct sorter *sides)
{
    struct sorter_rows groups;
    int rc = sorter_rows(&groups, sides);
    spill_begin(&g->sides, g->to, 1, g->memory / 32);
    for (int64_t i = 0; i < g->n && rc >= 0; i++) {
        uint64_t e = 0;
        rc = sorter_row(&groups, i, &e);
        if (rc >= 0) rc = spill_put(&g->sides, &(uint8_t){(uint8_t)e});
    }
    return rc < 0 ? rc : spill_turn(&g->sides);
}

int groups_deal(struct groups *g, uint64_t seed, void *ctx,
                int (*deal)(void *ctx, const struct cell *cells, int64_t n, int64_t left))
{
    struct dealing d = {.g = g, .seed = seed};
    struct sorter sides;
    sorter_begin(&sides, g->to, 1, 0, g->memory / 8);
    sorter_begin(&d.order, g->to, 2, 0, g->memory / 8);
    spill_begin(&d.groups, g->to, sizeof d.now, g->memory / 8);
    spill_begin(&d.cells, g->to, sizeof d.cell, g->memory / 8);
    int rc = list_groups(&d);
    if (rc >= 0) rc = deal_all(&d, &sides, ctx, deal);
    sorter_free(&d.order);
    spill_free(&d.groups);
    spill_free(&d.cells);
    if (rc >= 0) rc = list_sides(g, &sides);
    sorter_free(&sides);
    spill_read(&g->next, &g->of);
    return rc;
}

int groups_side(struct groups *g, int *side)
{
    const void *name;
    uint8_t room;
    int rc = spill_next(&g->next, &name);
    const uint8_t *at = rc > 0 ? spill_at(&g->sides, *(const uint32_t *)name, &room) : NULL;
    if (at) *side = *at;
    return rc > 0 && !at ? PEFT_EIO : rc;
}
