/* What graph.c, plan.c, schedule.c, live.c, layout.c and run.c share.
 *
 * The timeline is a list of events, and a buffer is an interval of events:
 * two buffers may have the same memory when their intervals are disjoint. */
#ifndef GRAPH_PLAN_H
#define GRAPH_PLAN_H

#include "base/host.h"
#include "graph/op.h"

enum event_kind { EVENT_FORWARD, EVENT_REPLAY, EVENT_BACKWARD };
struct event {
    int32_t node;
    int32_t kind;
    int32_t value, aux, temp;            /* buffers; -1 = none */
    int32_t chain;                       /* the first event of those that are run together */
};
enum { CHAIN = 8 };                      /* of them at most */

enum { PLAN_UNIT = 64 };                 /* sizes and offsets are multiples of it */
#define PLAN_SLAB_MAX ((int64_t)UINT32_MAX * PLAN_UNIT)
struct buffer {
    int64_t size, offset;
    int32_t first, last;                 /* events, both included */
    int32_t holders;                     /* nodes whose gradient it is that are still to go back */
};

/* What the planner knows of a node. */
struct plan_node {
    int32_t base;                        /* whose memory the value is: itself unless a view */
    int32_t value, aux, grad, temp;      /* the latest buffers; -1 = none */
    int32_t left, latest;                /* whose work is left to this one, and of those with this
                                            in[0] the last one; -1 = none */
    int32_t last[2];                     /* last event that reads the value: first made, replayed */
    uint8_t needed;                      /* run at all */
    uint8_t visited;                     /* has a gradient to pass on */
    uint8_t fixed;                       /* memory of the caller's, or kept */
    uint8_t saved;                       /* some backward reads the value */
    uint8_t pinned;                      /* read from another segment */
    uint8_t again;                       /* replayed when the backward phase reads it */
    uint8_t replayed;
    uint8_t adds, leaves;
};

/* All that a plan follows from; equal keys have equal plans. */
struct plan_key {
    const struct op *op;
    const struct qtype *type;
    int64_t rows, cols, aux_bytes, temp_bytes, work_bytes;
    int32_t in[GRAPH_IN], segment;
    int32_t flags;
    int32_t reserved;                    /* no unnamed padding: keys are compared as bytes */
};

struct plan {
    int32_t loss, policy;                /* loss: -1 = none */
    bool valid;
    struct plan_key *key;
    struct plan_node *node;
    struct event *event;
    struct buffer *buffer;
    void *work;                          /* bytes of scratch, of the stage at work */
    int64_t n_nodes, n_events, n_buffers;
    int64_t cap_key, cap_node, cap_event, cap_buffer, cap_work;
    int64_t slab, floor;                 /* bytes; floor = most that live at once */
};

struct graph {
    struct host *host;
    struct compute *compute;
    struct arena arena;                  /* nodes, arguments, names */
    struct tensor **node;                /* [n], leaves too */
    int64_t n, cap;
    const char *name;                    /* of the next node */
    int32_t segment;
    int64_t chunks;                      /* graph_chunks */
    int error;
    char message[512];
    struct plan plan;
    struct plan_report report;
    int64_t panels;                      /* of all plans so far */
    int planned;                         /* the plan is of the present nodes */
    char *slab;
    int64_t slab_bytes;
    int64_t at, step;                    /* next event, and step within it */
    const struct tensor *packed;         /* in[0] of the event before, an op's that `packs` */
    void (*see)(void *arg, const struct tensor *t);
    void *see_arg;
    void (*read)(void *arg, const struct tensor *leaf);
    void *read_arg;
    int64_t limit;                       /* of the slab; 0 = none */
    struct profile *profile;             /* or NULL */
    char bad[256];                       /* graph_find_nonfinite's answer */
};

/* graph_reserve without a slab. */
int graph_reserve_scratch(struct graph *g, int64_t scratch);
/* Room for n elements of `size` bytes at *array. */
int plan_grow(struct mem *m, void *array, int64_t *cap, int64_t n, int64_t size);
/* The events of p from its nodes, loss and policy (schedule.c), their buffers
 * (live.c), and the buffers' offsets (layout.c).  They cannot fail: the
 * arrays have been made large enough. */
void plan_schedule(struct plan *p, struct tensor *const *node);
void plan_buffers(struct plan *p, struct tensor *const *node);
void plan_layout(struct plan *p);
int64_t plan_layout_work(const struct plan *p);          /* bytes that it needs */
/* What backward of t reads: SAVE_* of the operands that want gradients. */
unsigned plan_reads(const struct tensor *t);

#endif
