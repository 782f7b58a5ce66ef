/* Jinja's evaluator: walks the syntax tree.
 *
 * Names are looked up in a chain of scopes.  The template, each round of a
 * loop, a macro's call, {% call %}, {% generation %}, {% with %} and the blocks
 * of {% set %} and {% filter %} have a scope; {% if %} has none. */
#include "text/jinja_node.h"

struct jbinding {
    const char *name;
    struct jv value;
    struct jbinding *next;
};
struct jscope { struct jscope *outer; struct jbinding *first; };
struct jloop {
    struct jv *items;
    int64_t n, at;
    struct jv last;             /* of loop.changed() */
};
struct jmacro {
    const struct jnode *def;
    struct jscope *scope;       /* where it was defined */
};
enum { FLOW_NONE, FLOW_BREAK, FLOW_CONTINUE };

static struct jv eval(struct jrun *r, struct jscope *s, const struct jnode *n);
static void exec(struct jrun *r, struct jscope *s, const struct jnode *body);

/* --- scopes */

static struct jscope *scope_new(struct jrun *r, struct jscope *outer)
{
    struct jscope *s = jr_alloc(r, (int64_t)sizeof *s);
    if (s) s->outer = outer;
    return s;
}

static void scope_set(struct jrun *r, struct jscope *s, const char *name, struct jv value)
{
    for (struct jbinding *b = s ? s->first : NULL; b && jr_charge(r, 1); b = b->next) {
        if (strcmp(b->name, name)) continue;
        b->value = value;
        return;
    }
    struct jbinding *b = jr_alloc(r, (int64_t)sizeof *b);
    if (!b) return;
    *b = (struct jbinding){name, value, s->first};
    s->first = b;
}

static struct jv scope_get(struct jrun *r, const struct jscope *s, const char *name)
{
    int64_t seen = 0;
    for (; s; s = s->outer)
        for (const struct jbinding *b = s->first; b; b = b->next, seen++)
            if (!strcmp(b->name, name)) return jr_charge(r, seen / 16) ? b->value : jv_none();
    const struct jbuiltin *fn = jr_function_find(name);
    struct jmethod *m = fn ? jr_alloc(r, (int64_t)sizeof *m) : NULL;
    if (!m || !jr_charge(r, seen / 16)) return jv_undefined(name);
    m->fn = fn;
    return (struct jv){.kind = JV_METHOD, .method = m};
}

/* --- loops */

struct jv jv_loop_attr(struct jrun *r, struct jloop *l, const char *name)
{
    const struct { const char *name; int64_t value; } numbers[] = {
        {"index", l->at + 1}, {"index0", l->at}, {"revindex", l->n - l->at},
        {"revindex0", l->n - l->at - 1}, {"length", l->n}, {"depth", 1}, {"depth0", 0},
    };
    const struct jbuiltin *const functions[] = {&jr_loop_cycle, &jr_loop_changed};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (!strcmp(name, numbers[i].name)) return jv_int(numbers[i].value);
    if (!strcmp(name, "first")) return jv_bool(l->at == 0);
    if (!strcmp(name, "last")) return jv_bool(l->at == l->n - 1);
    if (!strcmp(name, "previtem")) return l->at ? l->items[l->at - 1] : jv_undefined(name);
    if (!strcmp(name, "nextitem"))
        return l->at < l->n - 1 ? l->items[l->at + 1] : jv_undefined(name);
    for (size_t i = 0; i < ARRAY_LEN(functions); i++) {
        if (strcmp(name, functions[i]->name)) continue;
        struct jmethod *m = jr_alloc(r, (int64_t)sizeof *m);
        if (!m) break;
        *m = (struct jmethod){functions[i], {.kind = JV_LOOP, .loop = l}};
        return (struct jv){.kind = JV_METHOD, .method = m};
    }
    return jv_undefined(name);
}

static struct jv loop_cycle(struct jrun *r, struct jv self, struct jv *arg,
                            const struct jargs *all)
{
    (void)arg;
    if (all->n) return all->v[self.loop->at % all->n];
    jr_fail(r, PEFT_EDATA, "loop.cycle() without items");
    return jv_none();
}

static struct jv loop_changed(struct jrun *r, struct jv self, struct jv *arg,
                              const struct jargs *all)
{
    struct jv now = jv_seq(r, JV_TUPLE, all->n), last = self.loop->last;
    (void)arg;
    for (int64_t i = 0; i < all->n; i++) jv_push(r, now, all->v[i]);
    self.loop->last = now;
    return jv_bool(last.kind != JV_TUPLE || !jv_equal(r, last, now));
}

const struct jbuiltin jr_loop_cycle = {"cycle", loop_cycle, 0, -1, {NULL}};
const struct jbuiltin jr_loop_changed = {"changed", loop_changed, 0, -1, {NULL}};

/* --- calls */

static void push_args(struct jrun *r, struct jv list, const struct jv *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) jv_push(r, list, v[i]);
}

static void push_keywords(struct jrun *r, struct jargs *out, struct jv dict)
{
    if (dict.kind != JV_DICT) {
        jr_fail(r, PEFT_EDATA, "** needs a dict, found %s", jv_type(dict));
        return;
    }
    struct jkeyword *kw = jr_alloc(r, (out->n_kw + dict.dict->n) * (int64_t)sizeof *kw);
    if (!kw) return;
    if (out->n_kw) memcpy(kw, out->kw, (size_t)out->n_kw * sizeof *kw);
    out->kw = kw;
    for (int64_t i = 0; i < dict.dict->n; i++) {
        struct jv key = dict.dict->v[i].key;
        if (key.kind != JV_STR) jr_fail(r, PEFT_EDATA, "** needs keys that are strings");
        else kw[out->n_kw++] = (struct jkeyword){jv_copy(r, key.s, key.n).s, dict.dict->v[i].value};
    }
}

static void eval_args(struct jrun *r, struct jscope *s, const struct jnode *n, struct jargs *out)
{
    struct jv list = jv_seq(r, JV_LIST, 0), *items;
    int64_t count = 0, n_items;
    *out = (struct jargs){0};
    for (const struct jnode *a = n; a; a = a->next) count += a->kind == JN_KEYWORD;
    if (count) out->kw = jr_alloc(r, count * (int64_t)sizeof *out->kw);
    for (const struct jnode *a = n; a && r->rc == PEFT_OK; a = a->next) {
        struct jv v = eval(r, s, a->a);
        if (r->rc < 0) break;
        if (a->kind == JN_ARG) jv_push(r, list, v);
        else if (a->kind == JN_KEYWORD) out->kw[out->n_kw++] = (struct jkeyword){a->s, v};
        else if (a->kind == JN_STAR2) push_keywords(r, out, v);
        else if (jv_items(r, v, &items, &n_items)) push_args(r, list, items, n_items);
    }
    if (r->rc < 0) {
        *out = (struct jargs){0};
        return;
    }
    out->v = list.seq->v;
    out->n = list.seq->n;
}

/* Runs a body into a string of its own. */
static struct jv capture(struct jrun *r, struct jscope *s, const struct jnode *body)
{
    struct buf b, *out = r->out;
    buf_init(&b, r->arena.mem);
    r->out = &b;
    if (s) exec(r, s, body);
    r->out = out;
    return jv_take(r, &b);
}

/* Binds the arguments to a macro's parameters in `s`; what is too much is an
 * error unless the body uses "varargs" or "kwargs". */
static void bind(struct jrun *r, struct jscope *s, const struct jnode *def,
                 const struct jargs *args)
{
    int64_t i = 0, used = 0;
    for (const struct jnode *p = def->a; p && r->rc == PEFT_OK; p = p->next, i++) {
        struct jv v = jv_undefined(p->s);
        bool given = i < args->n;
        if (given) v = args->v[i];
        for (int64_t k = 0; !given && k < args->n_kw; k++) {
            if (strcmp(args->kw[k].name, p->s)) continue;
            v = args->kw[k].value;
            given = true;
            used++;
        }
        if (!given && p->a) v = eval(r, s, p->a);
        scope_set(r, s, p->s, v);
    }
    if (def->op & JM_VARARGS) {
        struct jv rest = jv_seq(r, JV_TUPLE, 0);
        for (int64_t k = i; k < args->n; k++) jv_push(r, rest, args->v[k]);
        scope_set(r, s, "varargs", rest);
    } else if (args->n > i) {
        jr_fail(r, PEFT_EDATA, "macro %.40s takes not more than %lld arguments", def->s,
                (long long)i);
    }
    struct jv rest = jv_dict(r, JV_DICT);
    for (int64_t k = 0; k < args->n_kw; k++) {
        const struct jnode *p = def->a;
        bool caller = def->op & JM_CALLER && !strcmp(args->kw[k].name, "caller");
        while (p && strcmp(p->s, args->kw[k].name)) p = p->next;
        if (caller && !p) {
            scope_set(r, s, "caller", args->kw[k].value);
            used++;
        } else if (!p) {
            jv_put(r, rest, jv_text(args->kw[k].name), args->kw[k].value);
        }
    }
    if (def->op & JM_KWARGS) scope_set(r, s, "kwargs", rest);
    else if (used < args->n_kw)
        jr_fail(r, PEFT_EDATA, "macro %.40s got an argument too much, or twice", def->s);
}

static struct jv call_macro(struct jrun *r, const struct jmacro *m, const struct jargs *args)
{
    struct jscope *s = scope_new(r, m->scope);
    int flow = r->flow;
    if (r->calls == JINJA_NESTING) jr_fail(r, PEFT_EDATA, "macros call each other too deep");
    if (!s || r->rc < 0) return jv_undefined(NULL);
    r->calls++;
    r->flow = FLOW_NONE;
    if (m->def->op & JM_CALLER) scope_set(r, s, "caller", jv_undefined("caller"));
    bind(r, s, m->def, args);
    struct jv v = capture(r, s, m->def->body);
    r->flow = flow;
    r->calls--;
    return v;
}

struct jv jr_call(struct jrun *r, struct jv f, const struct jargs *args)
{
    if (r->rc < 0) return jv_undefined(NULL);
    if (f.kind == JV_MACRO) return call_macro(r, f.macro, args);
    if (f.kind == JV_METHOD) return jr_builtin(r, f.method->fn, f.method->self, args);
    if (f.kind == JV_UNDEFINED)
        jr_fail(r, PEFT_EDATA, "\"%.60s\" is undefined", f.s ? f.s : "?");
    else jr_fail(r, PEFT_EDATA, "a %s cannot be called", jv_type(f));
    return jv_undefined(NULL);
}

static struct jv new_macro(struct jrun *r, struct jscope *s, const struct jnode *def)
{
    struct jmacro *m = jr_alloc(r, (int64_t)sizeof *m);
    if (!m) return jv_undefined(NULL);
    *m = (struct jmacro){def, s};
    return (struct jv){.kind = JV_MACRO, .macro = m};
}

/* --- expressions */

static struct jv eval_items(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = jv_seq(r, n->kind == JN_LIST ? JV_LIST : JV_TUPLE, 0);
    for (const struct jnode *k = n->a; k && r->rc == PEFT_OK; k = k->next)
        jv_push(r, v, eval(r, s, k));
    return v;
}

static struct jv eval_dict(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = jv_dict(r, JV_DICT);
    for (const struct jnode *k = n->a; k && k->next && r->rc == PEFT_OK; k = k->next->next) {
        struct jv key = eval(r, s, k);
        jv_put(r, v, key, eval(r, s, k->next));
    }
    return v;
}

static struct jv eval_concat(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct buf b;
    buf_init(&b, r->arena.mem);
    for (const struct jnode *k = n->a; k && r->rc == PEFT_OK; k = k->next)
        jv_print(r, &b, eval(r, s, k));
    return jv_take(r, &b);
}

static bool compares(struct jrun *r, int op, struct jv a, struct jv b)
{
    switch (op) {
    case JT_EQ: return jv_equal(r, a, b);
    case JT_NE: return !jv_equal(r, a, b);
    case JT_IN: return jv_contains(r, b, a);
    case JT_NOT_IN: return !jv_contains(r, b, a);
    default: break;
    }
    double x, y;
    bool nan = jv_number(a, &x) && jv_number(b, &y) && (x != x || y != y);
    int order = jv_compare(r, a, b);
    return nan ? false : op == JT_LT ? order < 0 : op == JT_LE ? order <= 0 :
           op == JT_GT ? order > 0 : order >= 0;
}

static struct jv eval_chain(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = eval(r, s, n->a);
    for (const struct jnode *k = n->a->next; k && r->rc == PEFT_OK; k = k->next) {
        struct jv other = eval(r, s, k->a);
        if (n->kind == JN_MATH) {
            v = jv_math(r, k->op, v, other);
            continue;
        }
        if (!compares(r, k->op, v, other)) return jv_bool(false);
        v = other;
    }
    return n->kind == JN_MATH ? v : jv_bool(true);
}

static struct jv eval_sign(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = eval(r, s, n->a);
    double x;
    if (r->rc == PEFT_OK && !jv_number(v, &x))
        jr_fail(r, PEFT_EDATA, "a sign before %s, expected a number", jv_type(v));
    if (r->rc < 0) return v;
    if (v.kind == JV_FLOAT) return jv_float(n->kind == JN_NEG ? -v.f : v.f);
    return n->kind == JN_NEG ? jv_math(r, JT_SUB, jv_int(0), v) : jv_int(v.i);
}

static struct jv eval_apply(struct jrun *r, struct jscope *s, const struct jnode *n,
                            struct jv operand)
{
    struct jargs args;
    eval_args(r, s, n->b, &args);
    r->line = n->line;
    if (n->kind == JN_CALL) return jr_call(r, operand, &args);
    if (n->kind == JN_TEST) return jv_bool(jr_test(r, n->s, operand, &args));
    return jr_filter(r, n->s, operand, &args);
}

static struct jv eval_words(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = jv_none();
    for (const struct jnode *k = n->a; k && r->rc == PEFT_OK; k = k->next) {
        v = eval(r, s, k);
        if (jv_true(v) == (n->kind == JN_OR)) break;
    }
    return v;
}

static struct jv eval_slice(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = eval(r, s, n->a), missing = {0};
    struct jv from = n->b ? eval(r, s, n->b) : missing;
    struct jv to = n->c ? eval(r, s, n->c) : missing;
    struct jv step = n->body ? eval(r, s, n->body) : missing;
    return r->rc < 0 ? jv_none() : jv_slice(r, v, from, to, step);
}

static struct jv eval_kind(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v;
    switch (n->kind) {
    case JN_CONST: return n->value;
    case JN_NAME: return scope_get(r, s, n->s);
    case JN_LIST: case JN_TUPLE: return eval_items(r, s, n);
    case JN_DICT: return eval_dict(r, s, n);
    case JN_ATTR:
        v = eval(r, s, n->a);
        return jv_attr(r, v, n->s, true);
    case JN_INDEX:
        v = eval(r, s, n->a);
        return jv_index(r, v, eval(r, s, n->b));
    case JN_SLICE: return eval_slice(r, s, n);
    case JN_CALL: case JN_TEST: case JN_FILTER: return eval_apply(r, s, n, eval(r, s, n->a));
    case JN_NOT: return jv_bool(!jv_true(eval(r, s, n->a)));
    case JN_NEG: case JN_POS: return eval_sign(r, s, n);
    case JN_AND: case JN_OR: return eval_words(r, s, n);
    case JN_CONCAT: return eval_concat(r, s, n);
    case JN_MATH: case JN_COMPARE: return eval_chain(r, s, n);
    case JN_COND:
        if (jv_true(eval(r, s, n->a))) return eval(r, s, n->b);
        return n->c ? eval(r, s, n->c) : jv_undefined("inline if without else");
    default: return jv_undefined(NULL);
    }
}

static struct jv eval(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v = jv_undefined(NULL);
    if (!jr_charge(r, 1)) return v;
    if (++r->depth > JINJA_DEPTH) jr_fail(r, PEFT_EDATA, "nested too deep");
    r->line = n->line;
    if (r->rc == PEFT_OK) v = eval_kind(r, s, n);
    r->depth--;
    return r->rc < 0 ? jv_undefined(NULL) : v;
}

/* --- statements */

static void assign(struct jrun *r, struct jscope *s, const struct jnode *to, struct jv v)
{
    struct jv *items, ns;
    int64_t n, i = 0;
    if (r->rc < 0) return;
    switch (to->kind) {
    case JN_NAME: scope_set(r, s, to->s, v); return;
    case JN_NS_ATTR:
        ns = scope_get(r, s, to->s);
        if (ns.kind != JV_NAMESPACE || to->name[0] == '_')
            jr_fail(r, PEFT_EDATA, "%.40s.%.40s cannot be assigned to", to->s, to->name);
        else jv_put(r, ns, jv_text(to->name), v);
        return;
    default: break;
    }
    if (!jv_items(r, v, &items, &n)) return;
    for (const struct jnode *k = to->a; k; k = k->next) i++;
    if (i != n) {
        jr_fail(r, PEFT_EDATA, "%lld values for %lld names", (long long)n, (long long)i);
        return;
    }
    for (const struct jnode *k = to->a; k; k = k->next) assign(r, s, k, *items++);
}

/* The items that pass the loop's condition. */
static void filter_items(struct jrun *r, struct jscope *s, const struct jnode *n,
                         struct jv **items, int64_t *count)
{
    struct jv kept = jv_seq(r, JV_LIST, 0);
    for (int64_t i = 0; i < *count && r->rc == PEFT_OK; i++) {
        struct jscope *inner = scope_new(r, s);
        if (inner) assign(r, inner, n->a, (*items)[i]);
        if (r->rc == PEFT_OK && jv_true(eval(r, inner, n->c))) jv_push(r, kept, (*items)[i]);
    }
    if (r->rc < 0) return;
    *items = kept.seq->v;
    *count = kept.seq->n;
}

static void exec_for(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv over = eval(r, s, n->b);
    struct jloop *loop = jr_alloc(r, (int64_t)sizeof *loop);
    if (!loop || !jv_items(r, over, &loop->items, &loop->n)) return;
    if (n->c) filter_items(r, s, n, &loop->items, &loop->n);
    for (; loop->at < loop->n && jr_charge(r, 1); loop->at++) {
        struct jscope *inner = scope_new(r, s);
        if (!inner) return;
        scope_set(r, inner, "loop", (struct jv){.kind = JV_LOOP, .loop = loop});
        assign(r, inner, n->a, loop->items[loop->at]);
        exec(r, inner, n->body);
        bool leave = r->flow == FLOW_BREAK;
        r->flow = FLOW_NONE;
        if (leave) break;
    }
    if (!loop->n && n->other && r->rc == PEFT_OK) {
        struct jscope *inner = scope_new(r, s);
        if (inner) exec(r, inner, n->other);
    }
}

static struct jv through_filters(struct jrun *r, struct jscope *s, const struct jnode *n,
                                 struct jv v)
{
    if (!n || r->rc < 0) return v;
    if (++r->depth > JINJA_DEPTH) jr_fail(r, PEFT_EDATA, "nested too deep");
    v = eval_apply(r, s, n, through_filters(r, s, n->a, v));
    r->depth--;
    return v;
}

static void exec_call_block(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jargs args;
    struct jv callee = eval(r, s, n->b->a), caller = jv_dict(r, JV_DICT);
    eval_args(r, s, n->b->b, &args);
    jv_put(r, caller, jv_text("caller"), new_macro(r, s, n));
    if (r->rc == PEFT_OK) push_keywords(r, &args, caller);
    jv_print(r, r->out, jr_call(r, callee, &args));
}

static void exec_generation(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    int64_t from = r->out->n;
    struct jscope *inner = scope_new(r, s);
    if (inner) exec(r, inner, n->body);
    if (r->rc < 0 || !r->spans || r->out != r->root) return;
    ids_push(r->spans, (int32_t)from);
    ids_push(r->spans, (int32_t)r->out->n);
    if (ids_check(r->spans) < 0) r->rc = PEFT_ENOMEM;
}

static void exec_with(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jscope *inner = scope_new(r, s);
    const struct jnode *v = n->b;
    for (const struct jnode *k = n->a; k && v && inner; k = k->next, v = v->next)
        assign(r, inner, k, eval(r, s, v));
    if (inner) exec(r, inner, n->body);
}

static void exec_if(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    const struct jnode *k = n->a;
    while (k && r->rc == PEFT_OK && k->a && !jv_true(eval(r, s, k->a))) k = k->next;
    if (k && r->rc == PEFT_OK) exec(r, s, k->body);
}

static void exec_one(struct jrun *r, struct jscope *s, const struct jnode *n)
{
    struct jv v;
    switch (n->kind) {
    case JN_TEXT: jv_print(r, r->out, n->value); return;
    case JN_OUTPUT: jv_print(r, r->out, eval(r, s, n->a)); return;
    case JN_IF: exec_if(r, s, n); return;
    case JN_FOR: exec_for(r, s, n); return;
    case JN_SET: assign(r, s, n->a, eval(r, s, n->b)); return;
    case JN_SET_BLOCK:
        v = capture(r, scope_new(r, s), n->body);
        assign(r, s, n->a, through_filters(r, s, n->b, v));
        return;
    case JN_FILTER_BLOCK:
        v = capture(r, scope_new(r, s), n->body);
        jv_print(r, r->out, through_filters(r, s, n->b, v));
        return;
    case JN_WITH: exec_with(r, s, n); return;
    case JN_MACRO: scope_set(r, s, n->s, new_macro(r, s, n)); return;
    case JN_CALL_BLOCK: exec_call_block(r, s, n); return;
    case JN_GENERATION: exec_generation(r, s, n); return;
    case JN_BREAK: r->flow = FLOW_BREAK; return;
    case JN_CONTINUE: r->flow = FLOW_CONTINUE; return;
    default: return;
    }
}

static void exec(struct jrun *r, struct jscope *s, const struct jnode *body)
{
    if (++r->depth > JINJA_DEPTH) jr_fail(r, PEFT_EDATA, "nested too deep");
    for (; body && !r->flow && jr_charge(r, 1); body = body->next) {
        r->line = body->line;
        exec_one(r, s, body);
        if (r->out->oom) jr_fail(r, PEFT_ENOMEM, "out of memory");
    }
    r->depth--;
}

/* --- one rendering */

void jinja_begin(struct jrun *r, struct mem *m)
{
    *r = (struct jrun){.line = 1, .most = JINJA_MEMORY};
    arena_init(&r->arena, m);
    r->globals = scope_new(r, NULL);
}

void jinja_var(struct jrun *r, const char *name, struct jv value)
{
    if (r->rc == PEFT_OK) scope_set(r, r->globals, name, value);
}

int jinja_render(const struct jinja *j, struct jrun *r, struct buf *out, struct ids *spans)
{
    r->out = r->root = out;
    r->spans = spans;
    struct jscope *s = scope_new(r, r->globals);
    if (s) exec(r, s, j->body);
    return r->rc;
}

void jinja_end(struct jrun *r)
{
    arena_free(&r->arena);
}
