/* Jinja's tests ("x is even"), each a row of a table. */
#include "text/jinja_node.h"
#include "text/unicode.h"

#define TEST(name) \
    static struct jv name(struct jrun *r, struct jv v, struct jv *arg, const struct jargs *all)
#define UNUSED_HERE (void)r, (void)v, (void)arg, (void)all
/* A test of the value alone. */
#define PLAIN_TEST(name, condition) TEST(name) { UNUSED_HERE; return jv_bool(condition); }

PLAIN_TEST(t_defined, v.kind != JV_UNDEFINED)
PLAIN_TEST(t_undefined, v.kind == JV_UNDEFINED)
PLAIN_TEST(t_none, v.kind == JV_NONE)
PLAIN_TEST(t_boolean, v.kind == JV_BOOL)
PLAIN_TEST(t_true, v.kind == JV_BOOL && v.i)
PLAIN_TEST(t_false, v.kind == JV_BOOL && !v.i)
PLAIN_TEST(t_integer, v.kind == JV_INT)
PLAIN_TEST(t_float, v.kind == JV_FLOAT)
PLAIN_TEST(t_number, v.kind == JV_INT || v.kind == JV_FLOAT || v.kind == JV_BOOL)
PLAIN_TEST(t_string, v.kind == JV_STR)
PLAIN_TEST(t_mapping, v.kind == JV_DICT)
PLAIN_TEST(t_iterable, jv_iterable(v))
PLAIN_TEST(t_sequence, v.kind == JV_UNDEFINED || v.kind == JV_STR || v.kind == JV_DICT ||
                       v.kind == JV_LIST || v.kind == JV_TUPLE || v.kind == JV_RANGE)
PLAIN_TEST(t_callable, v.kind == JV_MACRO || v.kind == JV_METHOD || v.kind == JV_UNDEFINED ||
                       v.kind == JV_LOOP)
PLAIN_TEST(t_escaped, v.kind == JV_STR && v.safe)
PLAIN_TEST(t_eq, jv_equal(r, v, arg[0]))
PLAIN_TEST(t_ne, !jv_equal(r, v, arg[0]))
PLAIN_TEST(t_lt, jv_compare(r, v, arg[0]) < 0)
PLAIN_TEST(t_le, jv_compare(r, v, arg[0]) <= 0)
PLAIN_TEST(t_gt, jv_compare(r, v, arg[0]) > 0)
PLAIN_TEST(t_ge, jv_compare(r, v, arg[0]) >= 0)
PLAIN_TEST(t_in, jv_contains(r, arg[0], v))

static bool remains(struct jrun *r, struct jv v, struct jv by, int64_t remainder)
{
    return jv_equal(r, jv_math(r, JT_MOD, v, by), jv_int(remainder));
}
PLAIN_TEST(t_odd, remains(r, v, jv_int(2), 1))
PLAIN_TEST(t_even, remains(r, v, jv_int(2), 0))
PLAIN_TEST(t_divisibleby, remains(r, v, arg[0], 0))

/* The same object; equal constants count as one, as Python shares them. */
TEST(t_sameas)
{
    UNUSED_HERE;
    if (v.kind != arg[0].kind) return jv_bool(false);
    return jv_bool(v.kind < JV_LIST ? jv_equal(r, v, arg[0]) : v.seq == arg[0].seq);
}

/* Some character has case, and none the other one. */
static bool cased(struct jrun *r, struct jv v, bool upper)
{
    bool found = false;
    struct jv s = jv_string(r, v);
    for (int64_t i = 0; i < s.n;) {
        int32_t cp;
        i += uni_next(s.s + i, &cp);
        if (upper ? uni_is_lower(cp) : uni_is_upper(cp, true)) return false;
        found = found || (upper ? uni_is_upper(cp, false) : uni_is_lower(cp));
    }
    return found;
}
PLAIN_TEST(t_lower, cased(r, v, false))
PLAIN_TEST(t_upper, cased(r, v, true))

TEST(t_filter)
{
    UNUSED_HERE;
    struct jv name = v.kind == JV_STR ? jv_copy(r, v.s, v.n) : jv_text("");
    return jv_bool(jr_filter_find(name.s) != NULL);
}
TEST(t_test)
{
    UNUSED_HERE;
    struct jv name = v.kind == JV_STR ? jv_copy(r, v.s, v.n) : jv_text("");
    return jv_bool(jr_test_find(name.s) != NULL);
}

#define ALONE 0, 0, {NULL}
#define BESIDE 1, 1, {"other"}
static const struct jbuiltin test_rows[] = {
    {"boolean", t_boolean, ALONE}, {"callable", t_callable, ALONE}, {"defined", t_defined, ALONE},
    {"divisibleby", t_divisibleby, 1, 1, {"num"}}, {"escaped", t_escaped, ALONE},
    {"even", t_even, ALONE}, {"false", t_false, ALONE}, {"filter", t_filter, ALONE},
    {"float", t_float, ALONE}, {"integer", t_integer, ALONE}, {"iterable", t_iterable, ALONE},
    {"lower", t_lower, ALONE}, {"mapping", t_mapping, ALONE}, {"none", t_none, ALONE},
    {"number", t_number, ALONE}, {"odd", t_odd, ALONE}, {"sequence", t_sequence, ALONE},
    {"string", t_string, ALONE}, {"test", t_test, ALONE}, {"true", t_true, ALONE},
    {"undefined", t_undefined, ALONE}, {"upper", t_upper, ALONE},
    {"==", t_eq, BESIDE}, {"eq", t_eq, BESIDE}, {"equalto", t_eq, BESIDE},
    {"!=", t_ne, BESIDE}, {"ne", t_ne, BESIDE}, {"in", t_in, 1, 1, {"seq"}},
    {"<", t_lt, BESIDE}, {"lt", t_lt, BESIDE}, {"lessthan", t_lt, BESIDE},
    {"<=", t_le, BESIDE}, {"le", t_le, BESIDE}, {">", t_gt, BESIDE}, {"gt", t_gt, BESIDE},
    {"greaterthan", t_gt, BESIDE}, {">=", t_ge, BESIDE}, {"ge", t_ge, BESIDE},
    {"sameas", t_sameas, BESIDE},
};

const struct jbuiltin *jr_test_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(test_rows); i++)
        if (!strcmp(name, test_rows[i].name)) return &test_rows[i];
    return NULL;
}

bool jr_test(struct jrun *r, const char *name, struct jv v, const struct jargs *args)
{
    const struct jbuiltin *t = r->rc < 0 ? NULL : jr_test_find(name);
    if (t) return jv_true(jr_builtin(r, t, v, args));
    jr_fail(r, PEFT_EUNSUPPORTED, "no test named \"%.40s\"", name);
    return false;
}
