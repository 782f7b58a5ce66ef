/* Jinja's values: those of Python that templates use.  Integers have 64 bits
 * (Python's have no limit); strings are UTF-8, counted in characters. */
#include "text/jinja_node.h"
#include "text/unicode.h"

#include <math.h>

bool jr_charge(struct jrun *r, int64_t steps)
{
    r->steps += steps;
    if (r->steps > JINJA_STEPS)
        jr_fail(r, PEFT_EDATA, "more than %d steps", JINJA_STEPS);
    return r->rc == PEFT_OK;
}

void *jr_alloc(struct jrun *r, int64_t size)
{
    if (r->rc < 0) return NULL;
    r->bytes += MAX(size, 16);
    if (size > r->most || r->bytes > r->most) {
        jr_fail(r, PEFT_EDATA, "more than %lld MiB of memory", (long long)r->most >> 20);
        return NULL;
    }
    void *p = arena_alloc(&r->arena, size);
    if (!p) jr_fail(r, PEFT_ENOMEM, "out of memory");
    return p;
}

/* --- making values */

struct jv jv_undefined(const char *name)
{
    return (struct jv){.kind = JV_UNDEFINED, .s = name};
}
struct jv jv_none(void) { return (struct jv){.kind = JV_NONE}; }
struct jv jv_bool(bool b) { return (struct jv){.kind = JV_BOOL, .i = b}; }
struct jv jv_int(int64_t i) { return (struct jv){.kind = JV_INT, .i = i}; }
struct jv jv_float(double f) { return (struct jv){.kind = JV_FLOAT, .f = f}; }
struct jv jv_str(const char *s, int64_t n) { return (struct jv){.kind = JV_STR, .n = n, .s = s}; }
struct jv jv_text(const char *s) { return jv_str(s, (int64_t)strlen(s)); }

struct jv jv_copy(struct jrun *r, const char *s, int64_t n)
{
    if (n > jr_longest(r))
        jr_fail(r, PEFT_EDATA, "a string of more than %lld MiB", (long long)jr_longest(r) >> 20);
    char *copy = jr_charge(r, 1 + n / 256) ? jr_alloc(r, n + 1) : NULL;
    if (!copy) return jv_text("");
    if (n > 0) memcpy(copy, s, (size_t)n);
    return jv_str(copy, n);
}

struct jv jv_take(struct jrun *r, struct buf *b)
{
    if (b->oom) jr_fail(r, PEFT_ENOMEM, "out of memory");
    struct jv v = jv_copy(r, b->data, b->n);
    buf_free(b);
    return v;
}

struct jv jv_seq(struct jrun *r, enum jv_kind kind, int64_t cap)
{
    struct jseq *seq = jr_alloc(r, (int64_t)sizeof *seq);
    if (seq && cap > 0) seq->v = jr_alloc(r, cap * (int64_t)sizeof *seq->v);
    if (r->rc < 0) return jv_undefined(NULL);
    seq->cap = cap;
    return (struct jv){.kind = (uint8_t)kind, .seq = seq};
}

/* Room for one more element of `size`; NULL on failure. */
static void *grown(struct jrun *r, void *v, int64_t n, int64_t *cap, int64_t size)
{
    if (n < *cap || r->rc < 0) return r->rc < 0 ? NULL : v;
    int64_t more = MAX(4, n * 2);
    void *to = jr_charge(r, 1 + n / 8) ? jr_alloc(r, more * size) : NULL;
    if (!to) return NULL;
    if (n > 0) memcpy(to, v, (size_t)(n * size));
    *cap = more;
    return to;
}

void jv_push(struct jrun *r, struct jv seq, struct jv item)
{
    struct jseq *q = seq.seq;
    struct jv *v = r->rc < 0 ? NULL : grown(r, q->v, q->n, &q->cap, (int64_t)sizeof *v);
    if (!v) return;
    q->v = v;
    q->v[q->n++] = item;
}

struct jv jv_dict(struct jrun *r, enum jv_kind kind)
{
    struct jdict *dict = jr_alloc(r, (int64_t)sizeof *dict);
    if (!dict) return jv_undefined(NULL);
    return (struct jv){.kind = (uint8_t)kind, .dict = dict};
}

static bool hashable(struct jv key)
{
    if (key.kind == JV_LIST || key.kind == JV_DICT) return false;
    for (int64_t i = 0; key.kind == JV_TUPLE && i < key.seq->n; i++)
        if (key.seq->v[i].kind == JV_LIST || key.seq->v[i].kind == JV_DICT) return false;
    return true;
}

struct jv *jv_find(struct jrun *r, struct jv dict, struct jv key)
{
    struct jdict *d = r->rc < 0 ? NULL : dict.dict;
    if (!d || !jr_charge(r, d->n / 16)) return NULL;
    for (int64_t i = 0; i < d->n; i++) {
        const struct jv *k = &d->v[i].key;
        if (k->kind == JV_STR && key.kind == JV_STR) {
            if (k->n == key.n && !memcmp(k->s, key.s, (size_t)key.n)) return &d->v[i].value;
        } else if (jv_equal(r, *k, key)) {
            return &d->v[i].value;
        }
    }
    return NULL;
}

void jv_put(struct jrun *r, struct jv dict, struct jv key, struct jv value)
{
    if (r->rc < 0) return;
    if (!hashable(key)) {
        jr_fail(r, PEFT_EDATA, "a %s cannot be a key", jv_type(key));
        return;
    }
    struct jdict *d = dict.dict;
    struct jv *old = jv_find(r, dict, key);
    if (old) {
        *old = value;
        return;
    }
    struct jpair *v = grown(r, d->v, d->n, &d->cap, (int64_t)sizeof *v);
    if (!v) return;
    d->v = v;
    d->v[d->n++] = (struct jpair){key, value};
}

/* A number without fraction is an integer: JSON's "1.0" is not told from "1". */
static struct jv json_number_value(double x)
{
    if (x == floor(x) && fabs(x) <= 9007199254740992.0) return jv_int((int64_t)x);
    return jv_float(x);
}

/* The depth is that of the JSON parser, at most 64. */
struct jv jv_json(struct jrun *r, const json *j)
{
    struct jv v, key;
    const char *s;
    switch (json_kind(j)) {
    case JSON_BOOL: return jv_bool(json_bool(j, 0));
    case JSON_NUMBER: return json_number_value(json_number(j, 0));
    case JSON_STRING:
        s = json_string(j);
        return jv_copy(r, s, (int64_t)strlen(s));
    case JSON_ARRAY:
        v = jv_seq(r, JV_LIST, json_count(j));
        for (const json *m = json_first(j); m && r->rc == PEFT_OK; m = json_next(m))
            jv_push(r, v, jv_json(r, m));
        return v;
    case JSON_OBJECT:
        v = jv_dict(r, JV_DICT);
        for (const json *m = json_first(j); m && r->rc == PEFT_OK; m = json_next(m)) {
            key = jv_copy(r, json_key(m), (int64_t)strlen(json_key(m)));
            jv_put(r, v, key, jv_json(r, m));
        }
        return v;
    default: return jv_none();
    }
}

/* --- questions */

const char *jv_type(struct jv v)
{
    static const char *const names[] = {
        "missing", "Undefined", "NoneType", "bool", "int", "float", "str", "list", "tuple",
        "range", "dict_view", "generator", "dict", "Namespace", "LoopContext", "Macro", "method",
    };
    return names[v.kind];
}

bool jv_is(struct jv v, const char *text)
{
    return v.kind == JV_STR && v.n == (int64_t)strlen(text) && !memcmp(v.s, text, (size_t)v.n);
}

bool jv_integer(struct jv v, int64_t *out)
{
    if (v.kind != JV_INT && v.kind != JV_BOOL) return false;
    *out = v.i;
    return true;
}

bool jv_number(struct jv v, double *out)
{
    if (v.kind == JV_FLOAT) *out = v.f;
    else if (v.kind == JV_INT || v.kind == JV_BOOL) *out = (double)v.i;
    else return false;
    return true;
}

bool jv_true(struct jv v)
{
    switch (v.kind) {
    case JV_MISSING: case JV_UNDEFINED: case JV_NONE: return false;
    case JV_BOOL: case JV_INT: return v.i != 0;
    case JV_FLOAT: return v.f != 0;
    case JV_STR: return v.n > 0;
    case JV_LIST: case JV_TUPLE: case JV_RANGE: case JV_VIEW: return v.seq->n > 0;
    case JV_DICT: return v.dict->n > 0;
    default: return true;
    }
}

/* Compares deeply; values are as deep as their makers could go, which a
 * namespace that holds itself exceeds. */
static bool deeper(struct jrun *r)
{
    if (++r->depth > JINJA_DEPTH) jr_fail(r, PEFT_EDATA, "values nested too deep");
    return r->rc == PEFT_OK;
}

static bool equal_items(struct jrun *r, struct jv a, struct jv b)
{
    bool same = a.seq->n == b.seq->n && jr_charge(r, 1) && deeper(r);
    for (int64_t i = 0; same && i < a.seq->n; i++)
        same = jr_charge(r, 1) && jv_equal(r, a.seq->v[i], b.seq->v[i]);
    r->depth--;
    return same;
}

static bool equal_dicts(struct jrun *r, struct jv a, struct jv b)
{
    bool same = a.dict->n == b.dict->n && deeper(r);
    for (int64_t i = 0; same && i < a.dict->n; i++) {
        const struct jv *other = jv_find(r, b, a.dict->v[i].key);
        same = other && jr_charge(r, 1) && jv_equal(r, a.dict->v[i].value, *other);
    }
    r->depth--;
    return same;
}

bool jv_equal(struct jrun *r, struct jv a, struct jv b)
{
    double x, y;
    if (r->rc < 0) return false;
    if (jv_number(a, &x) && jv_number(b, &y))
        return a.kind == JV_FLOAT || b.kind == JV_FLOAT ? x == y : a.i == b.i;
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case JV_NONE: case JV_UNDEFINED: return true;
    case JV_STR: return a.n == b.n && !memcmp(a.s, b.s, (size_t)a.n);
    case JV_LIST: case JV_TUPLE: case JV_RANGE:
        return a.seq == b.seq || equal_items(r, a, b);
    case JV_DICT: return a.dict == b.dict || equal_dicts(r, a, b);
    case JV_METHOD: return a.method == b.method;
    default: return a.seq == b.seq;
    }
}

int jv_compare(struct jrun *r, struct jv a, struct jv b)
{
    double x, y;
    if (r->rc < 0) return 0;
    if (jv_number(a, &x) && jv_number(b, &y)) {
        if (a.kind == JV_FLOAT || b.kind == JV_FLOAT) return x < y ? -1 : x > y;
        return a.i < b.i ? -1 : a.i > b.i;
    }
    if (a.kind == JV_STR && b.kind == JV_STR) {
        int order = memcmp(a.s, b.s, (size_t)MIN(a.n, b.n));
        return order ? (order < 0 ? -1 : 1) : a.n < b.n ? -1 : a.n > b.n;
    }
    if (a.kind == b.kind && (a.kind == JV_LIST || a.kind == JV_TUPLE)) {
        int64_t i = 0, n = MIN(a.seq->n, b.seq->n);
        while (i < n && jr_charge(r, 1) && jv_equal(r, a.seq->v[i], b.seq->v[i])) i++;
        if (i == n) return a.seq->n < b.seq->n ? -1 : a.seq->n > b.seq->n;
        int order = deeper(r) ? jv_compare(r, a.seq->v[i], b.seq->v[i]) : 0;
        r->depth--;
        return order;
    }
    if (a.kind == JV_UNDEFINED || b.kind == JV_UNDEFINED)
        jr_fail(r, PEFT_EDATA, "\"%.60s\" is undefined",
                a.kind == JV_UNDEFINED ? a.s ? a.s : "?" : b.s ? b.s : "?");
    else jr_fail(r, PEFT_EDATA, "%s and %s have no order", jv_type(a), jv_type(b));
    return 0;
}

bool jv_iterable(struct jv v)
{
    return v.kind == JV_UNDEFINED || v.kind == JV_STR || v.kind == JV_DICT || v.kind == JV_LOOP ||
           (v.kind >= JV_LIST && v.kind <= JV_ITER);
}

bool jv_items(struct jrun *r, struct jv v, struct jv **items, int64_t *n)
{
    struct jv list = v;
    *items = NULL;
    *n = 0;
    if (r->rc < 0 || v.kind == JV_UNDEFINED) return r->rc == PEFT_OK;
    if (v.kind == JV_STR) list = js_chars(r, v);
    if (v.kind == JV_DICT) {
        list = jv_seq(r, JV_LIST, v.dict->n);
        for (int64_t i = 0; i < v.dict->n; i++) jv_push(r, list, v.dict->v[i].key);
    }
    if (list.kind < JV_LIST || list.kind > JV_ITER) {
        jr_fail(r, PEFT_EDATA, "a %s has no items to go through", jv_type(v));
        return false;
    }
    *items = list.seq->n ? list.seq->v + list.seq->at : NULL;
    *n = list.seq->n - list.seq->at;
    if (v.kind == JV_ITER) list.seq->at = list.seq->n;
    return r->rc == PEFT_OK;
}

bool jv_contains(struct jrun *r, struct jv box, struct jv item)
{
    struct jv *items;
    int64_t n;
    if (box.kind == JV_STR) {
        if (item.kind == JV_STR) return js_find(r, box, item, false) >= 0;
        jr_fail(r, PEFT_EDATA, "\"in\" a string needs a string, found %s", jv_type(item));
        return false;
    }
    if (box.kind == JV_DICT) {
        if (hashable(item)) return jv_find(r, box, item) != NULL;
        jr_fail(r, PEFT_EDATA, "a %s cannot be a key", jv_type(item));
        return false;
    }
    if (!jv_items(r, box, &items, &n) || !jr_charge(r, n / 16)) return false;
    for (int64_t i = 0; i < n; i++)
        if (jv_equal(r, items[i], item)) return true;
    return false;
}

int64_t jv_length(struct jrun *r, struct jv v)
{
    switch (v.kind) {
    case JV_UNDEFINED: return 0;
    case JV_STR: return js_count(r, v);
    case JV_LIST: case JV_TUPLE: case JV_RANGE: case JV_VIEW: return v.seq->n;
    case JV_DICT: return v.dict->n;
    case JV_LOOP: return jv_loop_attr(r, v.loop, "length").i;
    default:
        jr_fail(r, PEFT_EDATA, "a %s has no length", jv_type(v));
        return 0;
    }
}

/* --- arithmetic */

static struct jv int_math(struct jrun *r, int op, int64_t a, int64_t b)
{
    int64_t c = 0;
    bool fits = true;
    if ((op == JT_FLOORDIV || op == JT_MOD) && b == 0) {
        jr_fail(r, PEFT_EDATA, "division by zero");
        return jv_int(0);
    }
    switch (op) {
    case JT_ADD: fits = add_ok(a, b, &c); break;
    case JT_SUB: fits = !__builtin_sub_overflow(a, b, &c); break;
    case JT_MUL: fits = mul_ok(a, b, &c); break;
    case JT_FLOORDIV: case JT_MOD:
        if (b == -1) {
            fits = op == JT_MOD || !__builtin_sub_overflow((int64_t)0, a, &c);
            break;
        }
        c = op == JT_MOD ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0)) c += op == JT_MOD ? b : -1;
        break;
    default:    /* JT_POW, b >= 0 */
        for (c = 1; b > 0 && fits; b >>= 1) {
            if (b & 1) fits = mul_ok(c, a, &c);
            if (b > 1 && fits) fits = mul_ok(a, a, &a);
        }
    }
    if (!fits) jr_fail(r, PEFT_EDATA, "an integer of more than 63 bits");
    return jv_int(c);
}

static struct jv float_math(struct jrun *r, int op, double a, double b)
{
    double m;
    if ((op == JT_DIV || op == JT_FLOORDIV || op == JT_MOD) && b == 0) {
        jr_fail(r, PEFT_EDATA, "division by zero");
        return jv_int(0);
    }
    switch (op) {
    case JT_ADD: return jv_float(a + b);
    case JT_SUB: return jv_float(a - b);
    case JT_MUL: return jv_float(a * b);
    case JT_DIV: return jv_float(a / b);
    case JT_FLOORDIV: case JT_MOD:
        m = fmod(a, b);
        if (m != 0 && (m < 0) != (b < 0)) m += b;
        if (m == 0) m = copysign(0, b);
        return jv_float(op == JT_MOD ? m : round((a - m) / b));
    default:
        if ((a == 0 && b < 0) || (a < 0 && b != floor(b))) {
            jr_fail(r, PEFT_EDATA, "a power that is no real number");
            return jv_int(0);
        }
        return jv_float(pow(a, b));
    }
}

/* a + b of two strings, where a safe one escapes the other. */
static struct jv join_two(struct jrun *r, struct jv a, struct jv b)
{
    bool safe = a.safe || b.safe;
    if (safe && !a.safe) a = js_escape(r, a);
    if (safe && !b.safe) b = js_escape(r, b);
    struct jv v = jv_str("", 0);
    if (a.n + b.n > jr_longest(r))
        jr_fail(r, PEFT_EDATA, "a string of more than %lld MiB", (long long)jr_longest(r) >> 20);
    char *s = jr_charge(r, (a.n + b.n) / 256) ? jr_alloc(r, a.n + b.n + 1) : NULL;
    if (!s) return v;
    memcpy(s, a.s, (size_t)a.n);
    memcpy(s + a.n, b.s, (size_t)b.n);
    v = jv_str(s, a.n + b.n);
    v.safe = safe;
    return v;
}

static struct jv repeat(struct jrun *r, struct jv v, int64_t times)
{
    int64_t n = v.kind == JV_STR ? v.n : v.seq->n, total = 0;
    times = MAX(times, 0);
    if (!mul_ok(n, times, &total) || total > jr_longest(r)) {
        jr_fail(r, PEFT_EDATA, "a value of more than %lld MiB", (long long)jr_longest(r) >> 20);
        return jv_none();
    }
    if (v.kind == JV_STR) {
        char *s = jr_charge(r, total / 256) ? jr_alloc(r, total + 1) : NULL;
        for (int64_t i = 0; s && i < times && n > 0; i++) memcpy(s + i * n, v.s, (size_t)n);
        struct jv out = jv_str(s ? s : "", s ? total : 0);
        out.safe = v.safe;
        return out;
    }
    struct jv out = jr_charge(r, total / 8) ? jv_seq(r, v.kind, total) : jv_none();
    for (int64_t i = 0; n > 0 && i < times && r->rc == PEFT_OK; i++)
        for (int64_t k = 0; k < n; k++) jv_push(r, out, v.seq->v[k]);
    return out;
}

static struct jv join_lists(struct jrun *r, struct jv a, struct jv b)
{
    struct jv v = jr_charge(r, (a.seq->n + b.seq->n) / 8)
                  ? jv_seq(r, a.kind, a.seq->n + b.seq->n) : jv_none();
    for (int64_t i = 0; i < a.seq->n; i++) jv_push(r, v, a.seq->v[i]);
    for (int64_t i = 0; i < b.seq->n; i++) jv_push(r, v, b.seq->v[i]);
    return v;
}

static bool repeats(struct jv v)
{
    return v.kind == JV_STR || v.kind == JV_LIST || v.kind == JV_TUPLE;
}

struct jv jv_math(struct jrun *r, int op, struct jv a, struct jv b)
{
    double x, y;
    int64_t i = 0, k = 0;
    if (r->rc < 0) return jv_none();
    if (jv_integer(a, &i) && jv_integer(b, &k) && op != JT_DIV && !(op == JT_POW && k < 0))
        return int_math(r, op, i, k);
    if (jv_number(a, &x) && jv_number(b, &y)) return float_math(r, op, x, y);
    if (op == JT_MOD && a.kind == JV_STR) return js_percent(r, a, b);
    if (op == JT_ADD && a.kind == JV_STR && b.kind == JV_STR) return join_two(r, a, b);
    if (op == JT_ADD && a.kind == b.kind && (a.kind == JV_LIST || a.kind == JV_TUPLE))
        return join_lists(r, a, b);
    if (op == JT_MUL && repeats(a) && jv_integer(b, &i)) return repeat(r, a, i);
    if (op == JT_MUL && repeats(b) && jv_integer(a, &i)) return repeat(r, b, i);
    struct jv u = a.kind == JV_UNDEFINED ? a : b;
    if (u.kind == JV_UNDEFINED) jr_fail(r, PEFT_EDATA, "\"%.60s\" is undefined", u.s ? u.s : "?");
    else jr_fail(r, PEFT_EDATA, "no such operation on %s and %s", jv_type(a), jv_type(b));
    return jv_none();
}

/* --- parts */

struct jv jv_index(struct jrun *r, struct jv v, struct jv key)
{
    int64_t i;
    if (r->rc < 0) return jv_undefined(NULL);
    if (v.kind == JV_UNDEFINED) {
        jr_fail(r, PEFT_EDATA, "\"%.60s\" is undefined", v.s ? v.s : "?");
        return v;
    }
    if (v.kind == JV_DICT && hashable(key)) {
        const struct jv *found = jv_find(r, v, key);
        if (found) return *found;
    }
    bool indexed = v.kind == JV_STR || (v.kind >= JV_LIST && v.kind <= JV_RANGE);
    if (indexed && jv_integer(key, &i)) {
        int64_t n = jv_length(r, v);
        if (i < 0) i += n;
        if (i < 0 || i >= n || r->rc < 0) return jv_undefined("item");
        if (v.kind != JV_STR) return v.seq->v[i];
        int64_t at = js_offset(v, i);
        return jv_str(v.s + at, js_offset(jv_str(v.s + at, v.n - at), 1));
    }
    if (key.kind != JV_STR) return jv_undefined("item");
    struct jv name = jv_copy(r, key.s, key.n);
    return memchr(name.s, 0, (size_t)name.n) ? jv_undefined("item")
                                             : jv_attr(r, v, name.s, false);
}

struct jv jv_attr(struct jrun *r, struct jv v, const char *name, bool or_item)
{
    bool refused = false;
    if (r->rc < 0) return jv_undefined(NULL);
    if (name[0] == '_' && name[1] == '_') return jv_undefined(name);
    if (v.kind == JV_UNDEFINED) {
        jr_fail(r, PEFT_EDATA, "\"%.60s\" is undefined", v.s ? v.s : "?");
        return v;
    }
    if (v.kind == JV_LOOP) return jv_loop_attr(r, v.loop, name);
    if (v.kind == JV_NAMESPACE) {
        const struct jv *found = jv_find(r, v, jv_text(name));
        return found ? *found : jv_undefined(name);
    }
    const struct jbuiltin *fn = jr_method_find(v, name, &refused);
    if (refused) return jv_undefined(name);
    if (fn) {
        struct jmethod *m = jr_alloc(r, (int64_t)sizeof *m);
        if (!m) return jv_undefined(name);
        *m = (struct jmethod){fn, v};
        return (struct jv){.kind = JV_METHOD, .method = m};
    }
    const struct jv *found = v.kind == JV_DICT && or_item ? jv_find(r, v, jv_text(name)) : NULL;
    return found ? *found : jv_undefined(name);
}

struct jv jv_path(struct jrun *r, struct jv v, struct jv path)
{
    if (path.kind != JV_STR) return path.kind == JV_NONE ? v : jv_index(r, v, path);
    for (int64_t from = 0; from <= path.n && r->rc == PEFT_OK;) {
        const char *dot = memchr(path.s + from, '.', (size_t)(path.n - from));
        int64_t to = dot ? dot - path.s : path.n, i = 0;
        struct jv part = jv_str(path.s + from, to - from);
        bool digits = to > from && strspn(part.s, "0123456789") >= (size_t)part.n;
        if (digits && js_to_int(part, 10, &i)) part = jv_int(i);
        v = jv_index(r, v, part);
        from = to + 1;
    }
    return v;
}

static bool slice_bound(struct jrun *r, struct jv v, int64_t *out)
{
    if (v.kind == JV_NONE || v.kind == JV_MISSING || jv_integer(v, out)) return true;
    jr_fail(r, PEFT_EDATA, "a slice by %s, expected an integer", jv_type(v));
    return false;
}

struct jv jv_slice(struct jrun *r, struct jv v, struct jv from, struct jv to, struct jv step)
{
    int64_t by = 1;
    bool str = v.kind == JV_STR;
    if (v.kind == JV_UNDEFINED) return jv_index(r, v, jv_int(0));
    if (!slice_bound(r, step, &by)) return jv_none();
    if (!str && (v.kind < JV_LIST || v.kind > JV_RANGE)) {
        jr_fail(r, PEFT_EDATA, "a %s has no slices", jv_type(v));
        return jv_none();
    }
    int64_t n = jv_length(r, v), lo = by < 0 ? -1 : 0, hi = by < 0 ? n - 1 : n;
    int64_t i = by < 0 ? hi : lo, end = by < 0 ? lo : hi;
    int64_t given[2] = {INT64_MIN, INT64_MIN};
    if (by == 0) jr_fail(r, PEFT_EDATA, "a slice with step 0");
    if (!slice_bound(r, from, &given[0]) || !slice_bound(r, to, &given[1]) || by == 0)
        return jv_none();
    for (int k = 0; k < 2; k++) {
        bool set = k ? to.kind == JV_INT || to.kind == JV_BOOL
                     : from.kind == JV_INT || from.kind == JV_BOOL;
        int64_t g = given[k];
        if (!set) continue;
        if (g < 0) g = g < -n ? lo : g + n;
        *(k ? &end : &i) = MAX(lo, MIN(g, hi));
    }
    by = MAX(-n - 1, MIN(by, n + 1));
    if (str && by == 1) {
        int64_t at = js_offset(v, i);
        return jv_str(v.s + at, js_offset(jv_str(v.s + at, v.n - at), MAX(end - i, 0)));
    }
    struct jv all = str ? js_chars(r, v) : v;
    if (r->rc < 0) return jv_none();
    struct jv out = jv_seq(r, str || v.kind == JV_RANGE ? JV_LIST : v.kind, n / 2);
    for (; (by > 0 ? i < end : i > end) && jr_charge(r, 1); i += by)
        jv_push(r, out, all.seq->v[i]);
    if (!str || r->rc < 0) return out;
    struct buf b;
    buf_init(&b, r->arena.mem);
    for (i = 0; i < out.seq->n; i++) buf_put(&b, out.seq->v[i].s, out.seq->v[i].n);
    return jv_take(r, &b);
}
