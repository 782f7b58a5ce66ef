/* Jinja's global functions, and the methods of strings, lists and dicts, each a
 * row of a table.  Methods that would change a value are refused: asking for
 * one gives undefined, as in jinja2's immutable sandbox. */
#include "text/jinja_node.h"
#include "text/unicode.h"

#include <stdlib.h>

#define JMETHOD(name) \
    static struct jv name(struct jrun *r, struct jv s, struct jv *arg, const struct jargs *all)
#define NO_WARNING (void)r, (void)s, (void)arg, (void)all

/* Binds arguments to the row's parameters. */
struct jv jr_builtin(struct jrun *r, const struct jbuiltin *b, struct jv self,
                     const struct jargs *args)
{
    struct jv arg[4] = {{0}};
    if (r->rc < 0 || !jr_charge(r, 1)) return jv_undefined(NULL);
    if (b->max >= 0 && args->n > b->max)
        jr_fail(r, PEFT_EDATA, "%s: %lld arguments, expected at most %d", b->name,
                (long long)args->n, b->max);
    for (int64_t i = 0; i < args->n && i < b->max; i++) arg[i] = args->v[i];
    for (int64_t k = 0; k < args->n_kw && b->max >= 0; k++) {
        int i = 0;
        while (i < b->max && strcmp(b->params[i], args->kw[k].name)) i++;
        if (i == b->max || arg[i].kind != JV_MISSING)
            jr_fail(r, PEFT_EDATA, "%s: no argument \"%.40s\", or twice", b->name,
                    args->kw[k].name);
        else arg[i] = args->kw[k].value;
    }
    for (int i = 0; i < b->need; i++)
        if (arg[i].kind == JV_MISSING)
            jr_fail(r, PEFT_EDATA, "%s: argument \"%s\" is missing", b->name, b->params[i]);
    return r->rc < 0 ? jv_undefined(NULL) : b->fn(r, self, arg, args);
}

/* False after failing, if v is not a string. */
static bool need_string(struct jrun *r, struct jv v, const char *what)
{
    if (v.kind == JV_STR) return true;
    jr_fail(r, PEFT_EDATA, "%s needs a string, found %s", what, jv_type(v));
    return false;
}

static bool count_or(struct jrun *r, struct jv v, int64_t absent, int64_t *out)
{
    *out = absent;
    if (v.kind == JV_MISSING || jv_integer(v, out)) return true;
    jr_fail(r, PEFT_EDATA, "expected an integer, found %s", jv_type(v));
    return false;
}

/* --- strings */

static struct jv strip_side(struct jrun *r, struct jv s, struct jv chars, bool left, bool right)
{
    bool known = chars.kind == JV_MISSING || chars.kind == JV_NONE;
    if (!known && !need_string(r, chars, "strip")) return s;
    return js_strip(r, s, chars, left, right);
}
JMETHOD(s_strip) { NO_WARNING; return strip_side(r, s, arg[0], true, true); }
JMETHOD(s_lstrip) { NO_WARNING; return strip_side(r, s, arg[0], true, false); }
JMETHOD(s_rstrip) { NO_WARNING; return strip_side(r, s, arg[0], false, true); }
JMETHOD(s_upper) { NO_WARNING; return js_case(r, s, JS_UPPER); }
JMETHOD(s_lower) { NO_WARNING; return js_case(r, s, JS_LOWER); }
JMETHOD(s_title) { NO_WARNING; return js_case(r, s, JS_TITLE_WORDS); }
JMETHOD(s_capitalize) { NO_WARNING; return js_case(r, s, JS_CAPITALIZE); }
JMETHOD(s_splitlines) { NO_WARNING; return js_lines(r, s, jv_true(arg[0])); }
JMETHOD(s_format) { NO_WARNING; return js_format(r, s, all); }

static struct jv split_by(struct jrun *r, struct jv s, const struct jv *arg, bool right)
{
    int64_t max;
    bool known = arg[0].kind == JV_MISSING || arg[0].kind == JV_NONE;
    if (!known && !need_string(r, arg[0], "split")) return s;
    return count_or(r, arg[1], -1, &max) ? js_split(r, s, arg[0], max, right) : s;
}
JMETHOD(s_split) { NO_WARNING; return split_by(r, s, arg, false); }
JMETHOD(s_rsplit) { NO_WARNING; return split_by(r, s, arg, true); }

static struct jv partition(struct jrun *r, struct jv s, struct jv sep, bool right)
{
    struct jv out = jv_seq(r, JV_TUPLE, 3), empty = jv_text("");
    if (!need_string(r, sep, "partition")) return s;
    if (!sep.n) jr_fail(r, PEFT_EDATA, "partition: an empty separator");
    int64_t at = js_find(r, s, sep, right);
    jv_push(r, out, at >= 0 ? jv_str(s.s, at) : right ? empty : s);
    jv_push(r, out, at >= 0 ? sep : empty);
    jv_push(r, out, at >= 0 ? jv_str(s.s + at + sep.n, s.n - at - sep.n) : right ? s : empty);
    return out;
}
JMETHOD(s_partition) { NO_WARNING; return partition(r, s, arg[0], false); }
JMETHOD(s_rpartition) { NO_WARNING; return partition(r, s, arg[0], true); }

static bool affix(struct jv s, struct jv part, bool end)
{
    return part.kind == JV_STR && part.n <= s.n &&
           !memcmp(s.s + (end ? s.n - part.n : 0), part.s, (size_t)part.n);
}

/* One affix or a tuple of them, within s[start:stop]. */
static struct jv has_affix(struct jrun *r, struct jv s, const struct jv *arg, bool end)
{
    bool yes = false;
    if (arg[1].kind != JV_MISSING) s = jv_slice(r, s, arg[1], arg[2], (struct jv){0});
    if (r->rc < 0) return s;
    if (arg[0].kind != JV_TUPLE)
        return jv_bool(need_string(r, arg[0], "startswith") && affix(s, arg[0], end));
    for (int64_t i = 0; i < arg[0].seq->n; i++)
        yes = yes || (need_string(r, arg[0].seq->v[i], "startswith") &&
                      affix(s, arg[0].seq->v[i], end));
    return jv_bool(yes);
}
JMETHOD(s_startswith) { NO_WARNING; return has_affix(r, s, arg, false); }
JMETHOD(s_endswith) { NO_WARNING; return has_affix(r, s, arg, true); }

JMETHOD(s_removeprefix)
{
    NO_WARNING;
    if (!need_string(r, arg[0], "removeprefix") || !affix(s, arg[0], false)) return s;
    return jv_str(s.s + arg[0].n, s.n - arg[0].n);
}
JMETHOD(s_removesuffix)
{
    NO_WARNING;
    if (!need_string(r, arg[0], "removesuffix") || !affix(s, arg[0], true)) return s;
    return jv_str(s.s, s.n - arg[0].n);
}

JMETHOD(s_replace)
{
    NO_WARNING;
    int64_t max;
    bool ok = need_string(r, arg[0], "replace") && need_string(r, arg[1], "replace") &&
              count_or(r, arg[2], -1, &max);
    return ok ? js_replace(r, s, arg[0], arg[1], max) : s;
}

JMETHOD(s_join)
{
    NO_WARNING;
    struct jv *items;
    struct buf b;
    int64_t n;
    if (!jv_items(r, arg[0], &items, &n)) return s;
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < n && need_string(r, items[i], "join"); i++) {
        if (i) jv_print(r, &b, s);
        jv_print(r, &b, items[i]);
    }
    return jv_take(r, &b);
}

/* Place of a part in characters, within s[start:stop]; -1 = nowhere. */
static struct jv find_in(struct jrun *r, struct jv s, const struct jv *arg, bool last, bool must)
{
    int64_t start;
    if (!need_string(r, arg[0], "find") || !count_or(r, arg[1], 0, &start)) return s;
    int64_t n = js_count(r, s);
    if (start < 0) start = MAX(start + n, 0);
    struct jv part = jv_slice(r, s, jv_int(start), arg[2], (struct jv){0});
    int64_t at = r->rc < 0 || start > n ? -1 : js_find(r, part, arg[0], last);
    if (at >= 0) at = start + js_count(r, jv_str(part.s, at));
    if (at < 0 && must) jr_fail(r, PEFT_EDATA, "index: the part is not in the string");
    return jv_int(at);
}
JMETHOD(s_find) { NO_WARNING; return find_in(r, s, arg, false, false); }
JMETHOD(s_rfind) { NO_WARNING; return find_in(r, s, arg, true, false); }
JMETHOD(s_index) { NO_WARNING; return find_in(r, s, arg, false, true); }
JMETHOD(s_rindex) { NO_WARNING; return find_in(r, s, arg, true, true); }

JMETHOD(s_count)
{
    NO_WARNING;
    if (!need_string(r, arg[0], "count")) return s;
    if (!arg[0].n) return jv_int(js_count(r, s) + 1);
    struct jv parts = js_split(r, s, arg[0], -1, false);
    return r->rc < 0 ? s : jv_int(parts.seq->n - 1);
}

enum s_class { S_DIGIT, S_ALPHA, S_ALNUM, S_SPACE };
static struct jv all_are(struct jv s, enum s_class want)
{
    bool yes = s.n > 0;
    for (int64_t i = 0; i < s.n && yes;) {
        int32_t cp;
        i += uni_next(s.s + i, &cp);
        yes = want == S_DIGIT ? uni_decimal(cp) : want == S_ALPHA ? uni_letter(cp) :
              want == S_ALNUM ? uni_letter(cp) || uni_number(cp) : js_space(cp);
    }
    return jv_bool(yes);
}
JMETHOD(s_isdigit) { NO_WARNING; return all_are(s, S_DIGIT); }
JMETHOD(s_isalpha) { NO_WARNING; return all_are(s, S_ALPHA); }
JMETHOD(s_isalnum) { NO_WARNING; return all_are(s, S_ALNUM); }
JMETHOD(s_isspace) { NO_WARNING; return all_are(s, S_SPACE); }
JMETHOD(s_islower)
{
    NO_WARNING;
    return jv_bool(jr_test(r, "lower", s, &(struct jargs){0}));
}
JMETHOD(s_isupper)
{
    NO_WARNING;
    return jv_bool(jr_test(r, "upper", s, &(struct jargs){0}));
}

static const struct jbuiltin str_methods[] = {
    {"capitalize", s_capitalize, 0, 0, {NULL}}, {"count", s_count, 1, 1, {"sub"}},
    {"endswith", s_endswith, 1, 3, {"suffix", "start", "end"}},
    {"find", s_find, 1, 3, {"sub", "start", "end"}}, {"format", s_format, 0, -1, {NULL}},
    {"index", s_index, 1, 3, {"sub", "start", "end"}}, {"isalnum", s_isalnum, 0, 0, {NULL}},
    {"isalpha", s_isalpha, 0, 0, {NULL}}, {"isdecimal", s_isdigit, 0, 0, {NULL}},
    {"isdigit", s_isdigit, 0, 0, {NULL}}, {"islower", s_islower, 0, 0, {NULL}},
    {"isnumeric", s_isdigit, 0, 0, {NULL}}, {"isspace", s_isspace, 0, 0, {NULL}},
    {"isupper", s_isupper, 0, 0, {NULL}}, {"join", s_join, 1, 1, {"iterable"}},
    {"lower", s_lower, 0, 0, {NULL}}, {"lstrip", s_lstrip, 0, 1, {"chars"}},
    {"partition", s_partition, 1, 1, {"sep"}}, {"removeprefix", s_removeprefix, 1, 1, {"prefix"}},
    {"removesuffix", s_removesuffix, 1, 1, {"suffix"}},
    {"replace", s_replace, 2, 3, {"old", "new", "count"}},
    {"rfind", s_rfind, 1, 3, {"sub", "start", "end"}},
    {"rindex", s_rindex, 1, 3, {"sub", "start", "end"}},
    {"rpartition", s_rpartition, 1, 1, {"sep"}},
    {"rsplit", s_rsplit, 0, 2, {"sep", "maxsplit"}}, {"rstrip", s_rstrip, 0, 1, {"chars"}},
    {"split", s_split, 0, 2, {"sep", "maxsplit"}},
    {"splitlines", s_splitlines, 0, 1, {"keepends"}},
    {"startswith", s_startswith, 1, 3, {"prefix", "start", "end"}},
    {"strip", s_strip, 0, 1, {"chars"}}, {"title", s_title, 0, 0, {NULL}},
    {"upper", s_upper, 0, 0, {NULL}},
};

/* --- lists and dicts */

JMETHOD(l_count)
{
    NO_WARNING;
    int64_t n = 0;
    for (int64_t i = 0; i < s.seq->n && jr_charge(r, 1); i++)
        n += jv_equal(r, s.seq->v[i], arg[0]);
    return jv_int(n);
}
JMETHOD(l_index)
{
    NO_WARNING;
    for (int64_t i = 0; i < s.seq->n && jr_charge(r, 1); i++)
        if (jv_equal(r, s.seq->v[i], arg[0])) return jv_int(i);
    jr_fail(r, PEFT_EDATA, "index: the value is not in the list");
    return s;
}
JMETHOD(l_copy)
{
    NO_WARNING;
    return jv_slice(r, s, arg[0], arg[0], arg[0]);
}

JMETHOD(d_get)
{
    NO_WARNING;
    if (arg[0].kind == JV_LIST || arg[0].kind == JV_DICT)
        jr_fail(r, PEFT_EDATA, "a %s cannot be a key", jv_type(arg[0]));
    const struct jv *found = jv_find(r, s, arg[0]);
    return found ? *found : arg[1].kind == JV_MISSING ? jv_none() : arg[1];
}

static struct jv view(struct jrun *r, struct jv d, const char *what)
{
    struct jv out = jv_seq(r, JV_VIEW, d.dict->n);
    for (int64_t i = 0; i < d.dict->n && jr_charge(r, 1); i++) {
        struct jv item = what[0] == 'k' ? d.dict->v[i].key : d.dict->v[i].value;
        if (what[0] == 'i') {
            item = jv_seq(r, JV_TUPLE, 2);
            jv_push(r, item, d.dict->v[i].key);
            jv_push(r, item, d.dict->v[i].value);
        }
        jv_push(r, out, item);
    }
    if (r->rc == PEFT_OK) out.seq->view = what;
    return out;
}
JMETHOD(d_items) { NO_WARNING; return view(r, s, "items"); }
JMETHOD(d_keys) { NO_WARNING; return view(r, s, "keys"); }
JMETHOD(d_values) { NO_WARNING; return view(r, s, "values"); }

static void add_pairs(struct jrun *r, struct jv to, const struct jv *from, const struct jargs *all)
{
    struct jv *items, *pair;
    int64_t n = 0, two;
    bool dict = from && from->kind == JV_DICT;
    for (int64_t i = 0; dict && i < from->dict->n; i++)
        jv_put(r, to, from->dict->v[i].key, from->dict->v[i].value);
    if (from && !dict && !jv_items(r, *from, &items, &n)) return;
    for (int64_t i = 0; i < n && jv_items(r, items[i], &pair, &two); i++) {
        if (two == 2) jv_put(r, to, pair[0], pair[1]);
        else jr_fail(r, PEFT_EDATA, "dict: item %lld is no pair", (long long)i);
    }
    for (int64_t i = 0; i < all->n_kw; i++)
        jv_put(r, to, jv_text(all->kw[i].name), all->kw[i].value);
}

JMETHOD(d_copy)
{
    NO_WARNING;
    struct jv out = jv_dict(r, JV_DICT);
    add_pairs(r, out, &s, &(struct jargs){0});
    return out;
}

static const struct jbuiltin tuple_methods[] = {
    {"count", l_count, 1, 1, {"value"}}, {"index", l_index, 1, 1, {"value"}},
};
static const struct jbuiltin list_methods[] = {
    {"copy", l_copy, 0, 0, {NULL}}, {"count", l_count, 1, 1, {"value"}},
    {"index", l_index, 1, 1, {"value"}},
};
static const struct jbuiltin dict_methods[] = {
    {"copy", d_copy, 0, 0, {NULL}}, {"get", d_get, 1, 2, {"key", "default"}},
    {"items", d_items, 0, 0, {NULL}}, {"keys", d_keys, 0, 0, {NULL}},
    {"values", d_values, 0, 0, {NULL}},
};
static const char *const dict_refused[] = {
    "clear", "fromkeys", "pop", "popitem", "setdefault", "update", NULL,
};
static const char *const nothing_refused[] = {NULL};
static const struct {
    enum jv_kind kind;
    const struct jbuiltin *rows;
    size_t n;
    const char *const *refused;     /* a dict's key of this name is hidden */
} method_types[] = {
    {JV_STR, str_methods, ARRAY_LEN(str_methods), nothing_refused},
    {JV_LIST, list_methods, ARRAY_LEN(list_methods), nothing_refused},
    {JV_TUPLE, tuple_methods, ARRAY_LEN(tuple_methods), nothing_refused},
    {JV_RANGE, tuple_methods, ARRAY_LEN(tuple_methods), nothing_refused},
    {JV_DICT, dict_methods, ARRAY_LEN(dict_methods), dict_refused},
};

const struct jbuiltin *jr_method_find(struct jv v, const char *name, bool *refused)
{
    for (size_t k = 0; k < ARRAY_LEN(method_types); k++) {
        if (method_types[k].kind != v.kind) continue;
        for (size_t i = 0; i < method_types[k].n; i++)
            if (!strcmp(name, method_types[k].rows[i].name)) return &method_types[k].rows[i];
        for (const char *const *p = method_types[k].refused; *p; p++)
            if (!strcmp(name, *p)) *refused = true;
    }
    return NULL;
}

/* --- functions */

JMETHOD(g_range)
{
    NO_WARNING;
    int64_t a = 0, b = 0, step = 1, n = 0, span;
    bool ok = count_or(r, arg[0], 0, arg[1].kind == JV_MISSING ? &b : &a) &&
              (arg[1].kind == JV_MISSING || count_or(r, arg[1], 0, &b)) &&
              count_or(r, arg[2], 1, &step);
    if (ok && step == 0) jr_fail(r, PEFT_EDATA, "range: step 0");
    if (r->rc < 0) return s;
    if (__builtin_sub_overflow(b, a, &span) || span == INT64_MIN || step == INT64_MIN)
        n = JINJA_RANGE + 1;
    else if ((step > 0) == (span > 0) && span != 0)
        n = (llabs(span) - 1) / llabs(step) + 1;
    if (n > JINJA_RANGE)
        jr_fail(r, PEFT_EDATA, "range: more than %d numbers", JINJA_RANGE);
    struct jv out = jr_charge(r, n / 8) ? jv_seq(r, JV_RANGE, n) : jv_none();
    for (int64_t i = 0; i < n && r->rc == PEFT_OK; i++) jv_push(r, out, jv_int(a + i * step));
    if (r->rc < 0) return out;
    out.seq->start = a;
    out.seq->stop = b;
    out.seq->step = step;
    return out;
}

JMETHOD(g_dict)
{
    NO_WARNING;
    struct jv out = jv_dict(r, JV_DICT);
    if (all->n > 1) jr_fail(r, PEFT_EDATA, "dict: more than one argument");
    add_pairs(r, out, all->n ? all->v : NULL, all);
    return out;
}

JMETHOD(g_namespace)
{
    NO_WARNING;
    struct jv out = g_dict(r, s, arg, all);
    if (r->rc < 0) return out;
    out.kind = JV_NAMESPACE;
    for (int64_t i = 0; i < out.dict->n; i++) {
        struct jv key = out.dict->v[i].key;
        if (key.kind == JV_STR && key.n && key.s[0] == '_')
            jr_fail(r, PEFT_EDATA, "namespace: a name that begins with an underscore");
    }
    return out;
}

JMETHOD(g_raise)
{
    NO_WARNING;
    struct jv text = jv_string(r, arg[0]);
    if (r->rc == PEFT_OK)
        r->rc = fail(PEFT_EDATA, "%.*s (line %d of the chat template)", (int)MIN(text.n, 400),
                     text.s, r->line);
    return text;
}

static const char *const day_names[] = {
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
};
static const char *const month_names[] = {
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
};

/* One conversion of strftime, in English whatever the locale. */
static bool put_date(struct buf *b, char c, const struct date *d)
{
    int hour = d->hour % 12 ? d->hour % 12 : 12;
    switch (c) {
    case 'Y': buf_printf(b, "%d", d->year); return true;
    case 'y': buf_printf(b, "%02d", d->year % 100); return true;
    case 'm': buf_printf(b, "%02d", d->month); return true;
    case 'd': buf_printf(b, "%02d", d->day); return true;
    case 'e': buf_printf(b, "%2d", d->day); return true;
    case 'j': buf_printf(b, "%03d", d->year_day); return true;
    case 'H': buf_printf(b, "%02d", d->hour); return true;
    case 'I': buf_printf(b, "%02d", hour); return true;
    case 'M': buf_printf(b, "%02d", d->minute); return true;
    case 'S': buf_printf(b, "%02d", d->second); return true;
    case 'p': buf_puts(b, d->hour < 12 ? "AM" : "PM"); return true;
    case 'A': buf_puts(b, day_names[d->week_day]); return true;
    case 'a': buf_put(b, day_names[d->week_day], 3); return true;
    case 'B': buf_puts(b, month_names[d->month - 1]); return true;
    case 'b': buf_put(b, month_names[d->month - 1], 3); return true;
    case 'F': buf_printf(b, "%d-%02d-%02d", d->year, d->month, d->day); return true;
    case 'T': buf_printf(b, "%02d:%02d:%02d", d->hour, d->minute, d->second); return true;
    case '%': buf_putc(b, '%'); return true;
    default: return false;
    }
}

JMETHOD(g_strftime)
{
    NO_WARNING;
    struct date now;
    struct buf b;
    if (!need_string(r, arg[0], "strftime_now")) return s;
    if (r->now) now = *r->now;
    else os_date(&now);
    buf_init(&b, r->arena.mem);
    for (int64_t i = 0; i < arg[0].n; i++) {
        char c = arg[0].s[i];
        if (c != '%' || i + 1 == arg[0].n) buf_putc(&b, c);
        else if (!put_date(&b, arg[0].s[++i], &now))
            jr_fail(r, PEFT_EUNSUPPORTED, "strftime_now: \"%%%.1s\"", &arg[0].s[i]);
    }
    return jv_take(r, &b);
}

static const struct jbuiltin global_functions[] = {
    {"range", g_range, 1, 3, {"start", "stop", "step"}}, {"dict", g_dict, 0, -1, {NULL}},
    {"namespace", g_namespace, 0, -1, {NULL}}, {"raise_exception", g_raise, 1, 1, {"message"}},
    {"strftime_now", g_strftime, 1, 1, {"format"}},
};

const struct jbuiltin *jr_function_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(global_functions); i++)
        if (!strcmp(name, global_functions[i].name)) return &global_functions[i];
    return NULL;
}
