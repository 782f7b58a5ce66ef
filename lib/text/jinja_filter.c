/* Jinja's filters and tests, each a row of a table. */
#include "text/jinja_node.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILTER(name) \
    static struct jv name(struct jrun *r, struct jv v, struct jv *arg, const struct jargs *all)
#define UNUSED (void)r, (void)v, (void)arg, (void)all

static bool given(struct jv v) { return v.kind != JV_MISSING; }

/* The first `n` arguments taken away. */
static struct jargs rest_of(const struct jargs *a, int64_t n)
{
    return (struct jargs){a->v + n, a->n - n, a->kw, a->n_kw};
}

static struct jv keyword(const struct jargs *a, const char *name)
{
    for (int64_t i = 0; i < a->n_kw; i++)
        if (!strcmp(a->kw[i].name, name)) return a->kw[i].value;
    return (struct jv){0};
}

static struct jv wrong(struct jrun *r, const char *filter, struct jv v)
{
    if (v.kind == JV_UNDEFINED)
        jr_fail(r, PEFT_EDATA, "%s: \"%.60s\" is undefined", filter, v.s ? v.s : "?");
    else jr_fail(r, PEFT_EDATA, "%s of %s", filter, jv_type(v));
    return jv_none();
}

/* --- strings */

FILTER(f_upper) { UNUSED; return js_case(r, jv_string(r, v), JS_UPPER); }
FILTER(f_lower) { UNUSED; return js_case(r, jv_string(r, v), JS_LOWER); }
FILTER(f_capitalize) { UNUSED; return js_case(r, jv_string(r, v), JS_CAPITALIZE); }
FILTER(f_title) { UNUSED; return js_case(r, jv_string(r, v), JS_TITLE); }
FILTER(f_string) { UNUSED; return jv_string(r, v); }
FILTER(f_escape) { UNUSED; return js_escape(r, v); }

FILTER(f_trim)
{
    UNUSED;
    return js_strip(r, jv_string(r, v), arg[0], true, true);
}

FILTER(f_safe)
{
    UNUSED;
    v = jv_string(r, v);
    v.safe = true;
    return v;
}

FILTER(f_replace)
{
    UNUSED;
    int64_t max = -1;
    jv_integer(arg[2], &max);
    return js_replace(r, jv_string(r, v), jv_string(r, arg[0]), jv_string(r, arg[1]), max);
}

FILTER(f_indent)
{
    UNUSED;
    return js_indent(r, v, arg[0], jv_true(arg[1]), jv_true(arg[2]));
}

FILTER(f_wordcount)
{
    UNUSED;
    struct jv s = jv_string(r, v);
    int64_t n = 0;
    bool inside = false;
    for (int64_t i = 0; i < s.n;) {
        int32_t cp;
        i += uni_next(s.s + i, &cp);
        bool word = cp == '_' || uni_letter(cp) || uni_number(cp);
        n += word && !inside;
        inside = word;
    }
    return jv_int(n);
}

FILTER(f_format)
{
    UNUSED;
    struct jv values = jv_seq(r, JV_TUPLE, all->n);
    for (int64_t i = 0; i < all->n; i++) jv_push(r, values, all->v[i]);
    return r->rc < 0 ? v : js_percent(r, jv_string(r, v), values);
}

FILTER(f_tojson)
{
    UNUSED;
    struct buf b;
    buf_init(&b, r->arena.mem);
    jv_tojson(r, &b, v, arg);
    return jv_take(r, &b);
}

/* --- numbers */

FILTER(f_int)
{
    UNUSED;
    int64_t i = 0, base = 10;
    double x;
    struct jv s = v.kind == JV_STR ? js_strip(r, v, jv_none(), true, true) : v;
    jv_integer(arg[1], &base);
    if (v.kind == JV_UNDEFINED) return wrong(r, "int", v);
    if (jv_integer(v, &i) || js_to_int(s, base, &i)) return jv_int(i);
    if ((jv_number(v, &x) || js_to_float(s, &x)) && x > -9.2e18 && x < 9.2e18)
        return jv_int((int64_t)x);
    return given(arg[0]) ? arg[0] : jv_int(0);
}

FILTER(f_float)
{
    UNUSED;
    double x;
    struct jv s = v.kind == JV_STR ? js_strip(r, v, jv_none(), true, true) : v;
    if (v.kind == JV_UNDEFINED) return wrong(r, "float", v);
    if (jv_number(v, &x) || js_to_float(s, &x)) return jv_float(x);
    if (jv_is(s, "nan")) return jv_float(NAN);
    if (jv_is(s, "inf") || jv_is(s, "-inf")) return jv_float(s.s[0] == '-' ? -INFINITY : INFINITY);
    return given(arg[0]) ? arg[0] : jv_float(0);
}

FILTER(f_abs)
{
    UNUSED;
    double x;
    if (!jv_number(v, &x)) return wrong(r, "abs", v);
    if (v.kind == JV_FLOAT) return jv_float(fabs(x));
    return v.i < 0 ? jv_math(r, JT_SUB, jv_int(0), v) : jv_int(v.i);
}

/* To `precision` decimals; the digits are those of the exact binary value. */
FILTER(f_round)
{
    UNUSED;
    int64_t precision = 0;
    double x, scale;
    char text[400];
    jv_integer(arg[0], &precision);
    if (!jv_number(v, &x) || precision < -15 || precision > 15) return wrong(r, "round", v);
    bool common = !given(arg[1]) || jv_is(arg[1], "common");
    if (common && v.kind != JV_FLOAT && precision >= 0) return jv_int(v.i);
    scale = pow(10, (double)precision);
    if (!common && !jv_is(arg[1], "ceil") && !jv_is(arg[1], "floor"))
        return wrong(r, "round by a method", arg[1]);
    bool up = jv_is(arg[1], "ceil");
    if (!common) return jv_float((up ? ceil(x * scale) : floor(x * scale)) / scale);
    if (precision <= 0) {
        x = nearbyint(x * scale) / scale;
        return v.kind == JV_FLOAT ? jv_float(x) : jv_int((int64_t)x);
    }
    snprintf(text, sizeof text, "%.*f", (int)precision, x);
    return jv_float(strtod(text, NULL));
}

/* --- sequences */

FILTER(f_length) { UNUSED; return jv_int(jv_length(r, v)); }

FILTER(f_default)
{
    UNUSED;
    bool use = v.kind == JV_UNDEFINED || (jv_true(arg[1]) && !jv_true(v));
    return !use ? v : given(arg[0]) ? arg[0] : jv_text("");
}

/* A list of the items, each through an attribute path if that is given. */
static struct jv items_of(struct jrun *r, struct jv v, enum jv_kind kind, struct jv path)
{
    struct jv *items;
    int64_t n;
    if (!jv_items(r, v, &items, &n) || !jr_charge(r, n / 8)) return jv_none();
    struct jv out = jv_seq(r, kind, n);
    bool direct = !given(path) || path.kind == JV_NONE;
    for (int64_t i = 0; i < n && r->rc == PEFT_OK; i++)
        jv_push(r, out, direct ? items[i] : jv_path(r, items[i], path));
    return out;
}

FILTER(f_list) { UNUSED; return items_of(r, v, JV_LIST, arg[0]); }

FILTER(f_join)
{
    UNUSED;
    struct buf b;
    struct jv list = items_of(r, v, JV_LIST, arg[1]);
    struct jv sep = given(arg[0]) ? jv_string(r, arg[0]) : jv_text("");
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++) {
        if (i) jv_print(r, &b, sep);
        jv_print(r, &b, list.seq->v[i]);
    }
    return jv_take(r, &b);
}

FILTER(f_first)
{
    UNUSED;
    struct jv *items;
    int64_t n;
    if (v.kind == JV_ITER)
        return v.seq->at < v.seq->n ? v.seq->v[v.seq->at++] : jv_undefined("first item");
    return jv_items(r, v, &items, &n) && n ? items[0] : jv_undefined("first item");
}

FILTER(f_last)
{
    UNUSED;
    struct jv *items;
    int64_t n;
    if (v.kind == JV_ITER) return wrong(r, "last", v);
    return jv_items(r, v, &items, &n) && n ? items[n - 1] : jv_undefined("last item");
}

static void reverse_items(struct jv list)
{
    for (int64_t i = 0, k = list.seq->n - 1; i < k; i++, k--) {
        struct jv t = list.seq->v[i];
        list.seq->v[i] = list.seq->v[k];
        list.seq->v[k] = t;
    }
}

FILTER(f_reverse)
{
    UNUSED;
    struct buf b;
    struct jv none = {0};
    struct jv list = items_of(r, v, JV_ITER, none);
    if (r->rc < 0) return v;
    reverse_items(list);
    if (v.kind == JV_ITER) list.kind = JV_LIST;
    if (v.kind != JV_STR) return list;
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < list.seq->n; i++) jv_print(r, &b, list.seq->v[i]);
    return jv_take(r, &b);
}

/* Keys to compare by: the attribute, without case unless it matters. */
static struct jv keys_of(struct jrun *r, struct jv list, struct jv path, bool cased)
{
    struct jv keys = items_of(r, list, JV_LIST, path);
    for (int64_t i = 0; r->rc == PEFT_OK && !cased && i < keys.seq->n; i++)
        if (keys.seq->v[i].kind == JV_STR)
            keys.seq->v[i] = js_case(r, keys.seq->v[i], JS_LOWER);
    return keys;
}

/* Stable merge sort of places by key; both directions keep equal ones in
 * their order.  Equal keys need no order, as two that are undefined. */
static struct jv sort_by(struct jrun *r, struct jv list, struct jv keys, bool reverse)
{
    int64_t n = list.seq->n, bytes = MAX(n, 1) * (int64_t)sizeof(int64_t);
    int64_t *at = jr_alloc(r, bytes), *tmp = jr_alloc(r, bytes);
    struct jv out = jv_seq(r, JV_LIST, n);
    if (r->rc < 0) return out;
    for (int64_t i = 0; i < n; i++) at[i] = i;
    for (int64_t width = 1; width < n && r->rc == PEFT_OK; width *= 2) {
        for (int64_t lo = 0; lo < n; lo += 2 * width) {
            int64_t mid = MIN(lo + width, n), hi = MIN(lo + 2 * width, n), i = lo, k = mid;
            for (int64_t to = lo; to < hi && jr_charge(r, 1); to++) {
                bool left = k >= hi;
                if (i < mid && k < hi) {
                    struct jv a = keys.seq->v[at[i]], b = keys.seq->v[at[k]];
                    int order = jv_equal(r, a, b) ? 0 : jv_compare(r, b, a);
                    left = reverse ? order <= 0 : order >= 0;
                }
                tmp[to] = left ? at[i++] : at[k++];
            }
            if (r->rc < 0) return out;
        }
        memcpy(at, tmp, (size_t)bytes);
    }
    for (int64_t i = 0; i < n; i++) jv_push(r, out, list.seq->v[at[i]]);
    return out;
}

/* The keys of "a,b" are pairs. */
static struct jv sort_keys(struct jrun *r, struct jv list, struct jv path, bool cased)
{
    if (path.kind != JV_STR || !memchr(path.s, ',', (size_t)path.n))
        return keys_of(r, list, path, cased);
    struct jv parts = js_split(r, path, jv_text(","), -1, false);
    struct jv keys = jv_seq(r, JV_LIST, 0);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++)
        jv_push(r, keys, jv_seq(r, JV_TUPLE, 0));
    for (int64_t k = 0; r->rc == PEFT_OK && k < parts.seq->n; k++) {
        struct jv column = keys_of(r, list, parts.seq->v[k], cased);
        for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++)
            jv_push(r, keys.seq->v[i], column.seq->v[i]);
    }
    return keys;
}

FILTER(f_sort)
{
    UNUSED;
    struct jv none = {0}, list = items_of(r, v, JV_LIST, none);
    struct jv keys = r->rc < 0 ? list : sort_keys(r, list, arg[2], jv_true(arg[1]));
    return r->rc < 0 ? list : sort_by(r, list, keys, jv_true(arg[0]));
}

static struct jv pairs_of(struct jrun *r, struct jv dict, enum jv_kind kind)
{
    struct jv out = jv_seq(r, kind, dict.dict->n);
    for (int64_t i = 0; i < dict.dict->n && jr_charge(r, 1); i++) {
        struct jv pair = jv_seq(r, JV_TUPLE, 2);
        jv_push(r, pair, dict.dict->v[i].key);
        jv_push(r, pair, dict.dict->v[i].value);
        jv_push(r, out, pair);
    }
    return out;
}

FILTER(f_items)
{
    UNUSED;
    if (v.kind == JV_UNDEFINED) return jv_seq(r, JV_ITER, 0);
    return v.kind == JV_DICT ? pairs_of(r, v, JV_ITER) : wrong(r, "items", v);
}

FILTER(f_dictsort)
{
    UNUSED;
    if (v.kind != JV_DICT) return wrong(r, "dictsort", v);
    bool value = given(arg[1]) && jv_is(arg[1], "value");
    struct jv list = pairs_of(r, v, JV_LIST);
    struct jv keys = keys_of(r, list, jv_int(value), jv_true(arg[0]));
    return r->rc < 0 ? list : sort_by(r, list, keys, jv_true(arg[2]));
}

FILTER(f_unique)
{
    UNUSED;
    struct jv none = {0}, list = items_of(r, v, JV_LIST, none), out = jv_seq(r, JV_ITER, 0);
    struct jv keys = r->rc < 0 ? list : keys_of(r, list, arg[1], jv_true(arg[0]));
    struct jv seen = jv_dict(r, JV_DICT);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++) {
        if (jv_find(r, seen, keys.seq->v[i])) continue;
        jv_put(r, seen, keys.seq->v[i], jv_none());
        jv_push(r, out, list.seq->v[i]);
    }
    return out;
}

static struct jv extreme(struct jrun *r, struct jv v, const struct jv *arg, int sign)
{
    struct jv none = {0}, list = items_of(r, v, JV_LIST, none);
    struct jv keys = r->rc < 0 ? list : keys_of(r, list, arg[1], jv_true(arg[0]));
    int64_t best = 0;
    if (r->rc < 0 || !list.seq->n) return jv_undefined("item of an empty sequence");
    for (int64_t i = 1; i < list.seq->n && jr_charge(r, 1); i++)
        if (jv_compare(r, keys.seq->v[i], keys.seq->v[best]) == sign) best = i;
    return list.seq->v[best];
}
FILTER(f_min) { UNUSED; return extreme(r, v, arg, -1); }
FILTER(f_max) { UNUSED; return extreme(r, v, arg, 1); }

FILTER(f_sum)
{
    UNUSED;
    struct jv list = items_of(r, v, JV_LIST, arg[0]);
    struct jv sum = given(arg[1]) ? arg[1] : jv_int(0);
    if (sum.kind == JV_STR) return wrong(r, "sum", sum);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++)
        sum = jv_math(r, JT_ADD, sum, list.seq->v[i]);
    return sum;
}

FILTER(f_batch)
{
    UNUSED;
    struct jv none = {0}, list = items_of(r, v, JV_LIST, none), out = jv_seq(r, JV_ITER, 0);
    struct jv row = none;
    int64_t n = 0;
    if (!jv_integer(arg[0], &n) || n < 1) return wrong(r, "batch", arg[0]);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n; i++) {
        if (i % n == 0) jv_push(r, out, row = jv_seq(r, JV_LIST, 0));
        jv_push(r, row, list.seq->v[i]);
    }
    bool fill = given(row) && given(arg[1]) && arg[1].kind != JV_NONE;
    while (fill && r->rc == PEFT_OK && row.seq->n < n && jr_charge(r, 1)) jv_push(r, row, arg[1]);
    return out;
}

FILTER(f_attr)
{
    UNUSED;
    struct jv name = jv_string(r, arg[0]);
    name = jv_copy(r, name.s, name.n);
    return jv_attr(r, v, name.s, false);
}

FILTER(f_map)
{
    UNUSED;
    struct jv path = keyword(all, "attribute"), other = keyword(all, "default");
    struct jv none = {0};
    struct jv list = jv_true(v) ? items_of(r, v, JV_ITER, none) : jv_seq(r, JV_ITER, 0);
    if (r->rc < 0 || !list.seq->n) return list;
    if (!all->n && !given(path)) return wrong(r, "map without a filter", v);
    struct jargs rest = all->n ? rest_of(all, 1) : *all;
    for (int64_t i = 0; i < list.seq->n && jr_charge(r, 1); i++) {
        struct jv *item = &list.seq->v[i], name;
        if (all->n) {
            name = jv_string(r, all->v[0]);
            *item = jr_filter(r, jv_copy(r, name.s, name.n).s, *item, &rest);
            continue;
        }
        *item = jv_path(r, *item, path);
        if (item->kind == JV_UNDEFINED && given(other)) *item = other;
    }
    return list;
}

static struct jv choose(struct jrun *r, struct jv v, const struct jargs *all, bool attr, bool keep)
{
    struct jv none = {0}, out = jv_seq(r, JV_ITER, 0);
    struct jv list = jv_true(v) ? items_of(r, v, JV_LIST, none) : out;
    int64_t used = attr;
    if (attr && !all->n) return wrong(r, "selection without an attribute", v);
    for (int64_t i = 0; r->rc == PEFT_OK && i < list.seq->n && jr_charge(r, 1); i++) {
        struct jv item = list.seq->v[i], tested = attr ? jv_path(r, item, all->v[0]) : item;
        bool yes = jv_true(tested);
        if (all->n > used) {
            struct jargs rest = rest_of(all, used + 1);
            struct jv name = jv_string(r, all->v[used]);
            yes = jr_test(r, jv_copy(r, name.s, name.n).s, tested, &rest);
        }
        if (yes == keep) jv_push(r, out, item);
    }
    return out;
}
FILTER(f_select) { UNUSED; return choose(r, v, all, false, true); }
FILTER(f_reject) { UNUSED; return choose(r, v, all, false, false); }
FILTER(f_selectattr) { UNUSED; return choose(r, v, all, true, true); }
FILTER(f_rejectattr) { UNUSED; return choose(r, v, all, true, false); }

static const struct jbuiltin filters[] = {
    {"abs", f_abs, 0, 0, {NULL}}, {"attr", f_attr, 1, 1, {"name"}},
    {"batch", f_batch, 1, 2, {"linecount", "fill_with"}},
    {"capitalize", f_capitalize, 0, 0, {NULL}}, {"count", f_length, 0, 0, {NULL}},
    {"d", f_default, 0, 2, {"default_value", "boolean"}},
    {"default", f_default, 0, 2, {"default_value", "boolean"}},
    {"dictsort", f_dictsort, 0, 3, {"case_sensitive", "by", "reverse"}},
    {"e", f_escape, 0, 0, {NULL}}, {"escape", f_escape, 0, 0, {NULL}},
    {"first", f_first, 0, 0, {NULL}}, {"float", f_float, 0, 1, {"default"}},
    {"format", f_format, 0, -1, {NULL}},
    {"indent", f_indent, 0, 3, {"width", "first", "blank"}},
    {"int", f_int, 0, 2, {"default", "base"}}, {"items", f_items, 0, 0, {NULL}},
    {"join", f_join, 0, 2, {"d", "attribute"}}, {"last", f_last, 0, 0, {NULL}},
    {"length", f_length, 0, 0, {NULL}}, {"list", f_list, 0, 0, {NULL}},
    {"lower", f_lower, 0, 0, {NULL}}, {"map", f_map, 0, -1, {NULL}},
    {"max", f_max, 0, 2, {"case_sensitive", "attribute"}},
    {"min", f_min, 0, 2, {"case_sensitive", "attribute"}},
    {"reject", f_reject, 0, -1, {NULL}}, {"rejectattr", f_rejectattr, 0, -1, {NULL}},
    {"replace", f_replace, 2, 3, {"old", "new", "count"}},
    {"reverse", f_reverse, 0, 0, {NULL}}, {"round", f_round, 0, 2, {"precision", "method"}},
    {"safe", f_safe, 0, 0, {NULL}}, {"select", f_select, 0, -1, {NULL}},
    {"selectattr", f_selectattr, 0, -1, {NULL}},
    {"sort", f_sort, 0, 3, {"reverse", "case_sensitive", "attribute"}},
    {"string", f_string, 0, 0, {NULL}}, {"sum", f_sum, 0, 2, {"attribute", "start"}},
    {"title", f_title, 0, 0, {NULL}},
    {"tojson", f_tojson, 0, 4, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", f_trim, 0, 1, {"chars"}},
    {"unique", f_unique, 0, 2, {"case_sensitive", "attribute"}},
    {"upper", f_upper, 0, 0, {NULL}}, {"wordcount", f_wordcount, 0, 0, {NULL}},
};

const struct jbuiltin *jr_filter_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(filters); i++)
        if (!strcmp(name, filters[i].name)) return &filters[i];
    return NULL;
}

struct jv jr_filter(struct jrun *r, const char *name, struct jv v, const struct jargs *args)
{
    const struct jbuiltin *f = r->rc < 0 ? NULL : jr_filter_find(name);
    if (f) return jr_builtin(r, f, v, args);
    jr_fail(r, PEFT_EUNSUPPORTED, "no filter named \"%.40s\"", name);
    return jv_undefined(NULL);
}
