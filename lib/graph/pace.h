/* What graphs take on this machine: nodes measured one at a time, and plans
 * predicted by them. */
#ifndef GRAPH_PACE_H
#define GRAPH_PACE_H

#include "graph/graph.h"

struct pace;
int pace_new(struct host *h, struct pace **out);
void pace_free(struct pace *p);
/* Runs one node of each kind in the planned graph, of the op `only` if it is not NULL, until
 * `deadline` (os_seconds), with no more than `memory` bytes at a time.  Weights are read, nothing
 * but memory of its own is written.  Graphs of two sizes tell what is fixed and what grows. */
int pace_measure(struct pace *p, struct graph *g, const char *only, double deadline,
                 int64_t memory);
/* Seconds of the present plan; and of moving bytes. */
double pace_plan(const struct pace *p, const struct graph *g);
double pace_bytes(const struct pace *p, double bytes);

#endif
