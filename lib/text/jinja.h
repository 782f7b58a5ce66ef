/* Rank 3, inside lib/text: a sandboxed interpreter for the Jinja of chat
 * templates.  Its meaning is that of Python's jinja2 3.1 in the environment of
 * Hugging Face transformers: ImmutableSandboxedEnvironment(trim_blocks=True,
 * lstrip_blocks=True) with break, continue and {% generation %}.
 *
 * A template sees only the variables it is given.  Work, memory, output and
 * depth are limited, so any template ends; failures leave nothing behind. */
#ifndef TEXT_JINJA_H
#define TEXT_JINJA_H

#include "base/json.h"
#include "base/pool.h"
#include "text/text.h"

enum {
    JINJA_SOURCE = 1 << 20,     /* bytes of a template */
    JINJA_NODES = 1 << 17,      /* of its syntax tree */
    JINJA_NESTING = 64,         /* of statements, brackets and macro calls */
    JINJA_DEPTH = 512,          /* of the evaluation */
    JINJA_STEPS = 1000000,
    JINJA_MEMORY = 256 << 20,   /* bytes of a rendering */
    JINJA_OUTPUT = JINJA_MEMORY / 16,   /* of that the result and any string */
    JINJA_RANGE = 100000        /* as jinja2's sandbox */
};

/* --- values */
enum jv_kind {
    JV_MISSING,                 /* an argument that was not given */
    JV_UNDEFINED, JV_NONE, JV_BOOL, JV_INT, JV_FLOAT, JV_STR,
    JV_LIST, JV_TUPLE, JV_RANGE,
    JV_VIEW,                    /* d.items(), d.keys(), d.values() */
    JV_ITER,                    /* what can be gone through only once */
    JV_DICT, JV_NAMESPACE, JV_LOOP, JV_MACRO, JV_METHOD
};
struct jseq;
struct jdict;
struct jv {
    uint8_t kind;
    bool safe;                  /* a string that |safe or |escape has made */
    int64_t n;                  /* bytes of `s` */
    union {
        int64_t i;              /* also bool */
        double f;
        const char *s;          /* string; or what is undefined, NULL = no name */
        struct jseq *seq;
        struct jdict *dict;     /* also namespace */
        struct jloop *loop;
        struct jmacro *macro;
        struct jmethod *method;
    };
};
struct jseq {
    struct jv *v;
    int64_t n, cap;
    int64_t at;                 /* iterator: how many are used up */
    int64_t start, stop, step;  /* of a range */
    const char *view;           /* "items", "keys", "values" */
};
struct jpair { struct jv key, value; };
struct jdict { struct jpair *v; int64_t n, cap; };

struct jkeyword { const char *name; struct jv value; };
struct jargs { struct jv *v; int64_t n; struct jkeyword *kw; int64_t n_kw; };

/* --- one rendering */
struct jscope;
struct jrun {
    struct arena arena;
    int rc;                     /* sticky: the first failure */
    int line, depth, calls;
    int64_t steps, bytes;
    int64_t most;               /* bytes; JINJA_MEMORY if nobody asks for less */
    struct buf *out;
    struct buf *root;           /* where the result goes */
    struct ids *spans;          /* from, to of {% generation %}s in `root`, or NULL */
    struct jscope *globals;
    const struct date *now;     /* NULL = the clock */
    int flow;                   /* a break or continue on its way */
};

/* Syntax: parses into `a`.  PEFT_EFORMAT with the line. */
struct jinja;
int jinja_parse(struct arena *a, const char *text, int64_t n, struct jinja **out);
bool jinja_generates(const struct jinja *j);    /* has {% generation %} */

/* begin, jinja_var for each variable, render, end.  Rendering appends to
 * `out`.  PEFT_EDATA when the template refuses, PEFT_EUNSUPPORTED when it asks
 * for something that is not there. */
void jinja_begin(struct jrun *r, struct mem *m);
void jinja_var(struct jrun *r, const char *name, struct jv value);
int jinja_render(const struct jinja *j, struct jrun *r, struct buf *out, struct ids *spans);
void jinja_end(struct jrun *r);

/* --- inside the interpreter.  Failures are sticky: after one, functions
 * return undefined and the evaluator unwinds. */
#define jr_fail(r, code, ...) \
    ((r)->rc ? (void)0 : (void)((r)->rc = fail_in(fail(code, __VA_ARGS__), \
                                                  "chat template line %d: ", (r)->line)))
bool jr_charge(struct jrun *r, int64_t steps);      /* false: failed */
static inline int64_t jr_longest(const struct jrun *r)  /* bytes of a string */
{
    return r->most / (JINJA_MEMORY / JINJA_OUTPUT);
}
void *jr_alloc(struct jrun *r, int64_t size);

struct jv jv_undefined(const char *name);
struct jv jv_none(void);
struct jv jv_bool(bool b);
struct jv jv_int(int64_t i);
struct jv jv_float(double f);
struct jv jv_str(const char *s, int64_t n);
struct jv jv_text(const char *s);               /* a constant C string */
struct jv jv_copy(struct jrun *r, const char *s, int64_t n);
/* The text of a buffer, which is freed. */
struct jv jv_take(struct jrun *r, struct buf *b);
struct jv jv_seq(struct jrun *r, enum jv_kind kind, int64_t cap);
void jv_push(struct jrun *r, struct jv seq, struct jv item);
struct jv jv_dict(struct jrun *r, enum jv_kind kind);
void jv_put(struct jrun *r, struct jv dict, struct jv key, struct jv value);
struct jv *jv_find(struct jrun *r, struct jv dict, struct jv key);
struct jv jv_json(struct jrun *r, const json *j);

const char *jv_type(struct jv v);               /* Python's name of the type */
bool jv_is(struct jv v, const char *text);
bool jv_number(struct jv v, double *out);       /* int, float, bool */
bool jv_integer(struct jv v, int64_t *out);     /* int, bool */
bool jv_true(struct jv v);
bool jv_equal(struct jrun *r, struct jv a, struct jv b);
int jv_compare(struct jrun *r, struct jv a, struct jv b);   /* -1, 0, 1 */
bool jv_contains(struct jrun *r, struct jv box, struct jv item);
int64_t jv_length(struct jrun *r, struct jv v);     /* len() */
bool jv_iterable(struct jv v);
/* The items in order; uses up an iterator. */
bool jv_items(struct jrun *r, struct jv v, struct jv **items, int64_t *n);
void jv_print(struct jrun *r, struct buf *b, struct jv v);  /* as str() */
void jv_repr(struct jrun *r, struct buf *b, struct jv v);   /* as repr() */
struct jv jv_string(struct jrun *r, struct jv v);           /* str(), |string */
void jv_tojson(struct jrun *r, struct buf *b, struct jv v, const struct jv option[4]);
struct jv jv_math(struct jrun *r, int op, struct jv a, struct jv b);
struct jv jv_index(struct jrun *r, struct jv v, struct jv key);
struct jv jv_attr(struct jrun *r, struct jv v, const char *name, bool or_item);
struct jv jv_slice(struct jrun *r, struct jv v, struct jv from, struct jv to, struct jv step);
struct jv jv_loop_attr(struct jrun *r, struct jloop *loop, const char *name);
/* An attribute path as filters take it: "a.b.0". */
struct jv jv_path(struct jrun *r, struct jv v, struct jv path);

/* --- what can be called by name */
typedef struct jv jbuiltin_fn(struct jrun *r, struct jv self, struct jv *arg,
                              const struct jargs *all);
struct jbuiltin {
    const char *name;
    jbuiltin_fn *fn;
    int need, max;              /* arguments; max -1 = `fn` reads `all` */
    const char *params[4];
};
struct jmethod { const struct jbuiltin *fn; struct jv self; };
struct jv jr_call(struct jrun *r, struct jv callee, const struct jargs *args);
struct jv jr_builtin(struct jrun *r, const struct jbuiltin *b, struct jv self,
                     const struct jargs *args);
struct jv jr_filter(struct jrun *r, const char *name, struct jv v, const struct jargs *args);
bool jr_test(struct jrun *r, const char *name, struct jv v, const struct jargs *args);
const struct jbuiltin *jr_filter_find(const char *name);
const struct jbuiltin *jr_test_find(const char *name);
/* A method of v's type, NULL = none; *refused: one that would change v. */
const struct jbuiltin *jr_method_find(struct jv v, const char *name, bool *refused);
const struct jbuiltin *jr_function_find(const char *name);
extern const struct jbuiltin jr_loop_cycle, jr_loop_changed;

/* --- strings */
struct jv js_strip(struct jrun *r, struct jv s, struct jv chars, bool left, bool right);
enum js_case { JS_LOWER, JS_UPPER, JS_CAPITALIZE, JS_TITLE /* |title */, JS_TITLE_WORDS };
struct jv js_case(struct jrun *r, struct jv s, enum js_case how);
struct jv js_split(struct jrun *r, struct jv s, struct jv sep, int64_t max, bool right);
struct jv js_lines(struct jrun *r, struct jv s, bool keep_ends);
struct jv js_replace(struct jrun *r, struct jv s, struct jv from, struct jv to, int64_t max);
struct jv js_escape(struct jrun *r, struct jv v);
struct jv js_chars(struct jrun *r, struct jv s);        /* a list of characters */
int64_t js_count(struct jrun *r, struct jv s);          /* characters */
int64_t js_offset(struct jv s, int64_t i);      /* of character i, in bytes */
int64_t js_find(struct jrun *r, struct jv s, struct jv what, bool last);    /* bytes; -1 */
struct jv js_percent(struct jrun *r, struct jv format, struct jv args);
struct jv js_format(struct jrun *r, struct jv format, const struct jargs *args);
struct jv js_indent(struct jrun *r, struct jv s, struct jv width, bool first, bool blank);
bool js_space(int32_t cp);                              /* as str.isspace() */
bool js_to_float(struct jv s, double *out);       /* as float(s), but inf and nan */
bool js_to_int(struct jv s, int64_t base, int64_t *out);

#endif
