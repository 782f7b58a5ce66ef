/* Inside lib/text/jinja*.c: tokens and the syntax tree. */
#ifndef TEXT_JINJA_NODE_H
#define TEXT_JINJA_NODE_H

#include "text/jinja.h"

enum jtok {
    JT_END, JT_TEXT, JT_VAR, JT_VAR_END, JT_BLOCK, JT_BLOCK_END, JT_NAME, JT_STRING, JT_INT,
    JT_FLOAT,
    JT_ADD, JT_SUB, JT_MUL, JT_DIV, JT_FLOORDIV, JT_MOD, JT_POW,
    JT_EQ, JT_NE, JT_LT, JT_LE, JT_GT, JT_GE, JT_IN, JT_NOT_IN,
    JT_TILDE, JT_ASSIGN, JT_DOT, JT_COLON, JT_COMMA, JT_PIPE, JT_SEMICOLON,
    JT_LPAREN, JT_RPAREN, JT_LBRACKET, JT_RBRACKET, JT_LBRACE, JT_RBRACE
};
struct jtoken {
    enum jtok type;
    int line;
    const char *s;              /* text, name, string: NUL-terminated but text */
    int64_t n, i;
    double f;
};
struct jlexer {
    struct arena *arena;
    const char *s;              /* line ends are "\n" */
    int64_t n, at;
    int64_t counted;            /* line ends before here are in `line` */
    int line;
    enum { JL_TEXT, JL_TAG, JL_VAR, JL_BLOCK } state;
    char open[JINJA_NESTING];   /* brackets inside a tag */
    int n_open;
};
int jlex_begin(struct jlexer *l, struct arena *a, const char *text, int64_t n);
int jlex_next(struct jlexer *l, struct jtoken *t);

/* Lists of nodes are linked by `next`. */
enum jnode_kind {
    /* expressions */
    JN_CONST,                   /* value */
    JN_NAME,                    /* s */
    JN_LIST, JN_TUPLE,          /* a: items */
    JN_DICT,                    /* a: key, value, key, value ... */
    JN_ATTR,                    /* a.s */
    JN_INDEX,                   /* a[b] */
    JN_SLICE,                   /* a[b:c:body], each may be NULL */
    JN_CALL,                    /* a(b) */
    JN_FILTER,                  /* a|s(b) */
    JN_TEST,                    /* a is s(b) */
    JN_NOT, JN_NEG, JN_POS,     /* a */
    JN_AND, JN_OR, JN_CONCAT,   /* a: operands */
    JN_MATH, JN_COMPARE,        /* a, then JN_OPERANDs */
    JN_OPERAND,                 /* op a */
    JN_COND,                    /* b if a else c (may be NULL) */
    /* arguments: a; s = keyword */
    JN_ARG, JN_KEYWORD, JN_STAR, JN_STAR2,
    /* targets of assignments, besides JN_NAME and JN_TUPLE: s.name */
    JN_NS_ATTR,
    /* statements */
    JN_TEXT,                    /* value */
    JN_OUTPUT,                  /* a */
    JN_IF,                      /* a: JN_BRANCHes */
    JN_BRANCH,                  /* a: condition, NULL = else; body */
    JN_FOR,                     /* for a in b if c: body, else other */
    JN_SET,                     /* a = b */
    JN_SET_BLOCK,               /* a = body, through the filter b */
    JN_WITH,                    /* a: targets, b: values; body */
    JN_MACRO,                   /* s, a: parameters (JN_ARG s, a: default); body */
    JN_CALL_BLOCK,              /* b: JN_CALL, a: parameters; body */
    JN_FILTER_BLOCK,            /* b: filter; body */
    JN_GENERATION,              /* body */
    JN_BREAK, JN_CONTINUE
};
enum { JM_CALLER = 1, JM_KWARGS = 2, JM_VARARGS = 4 };    /* names a macro's body uses */
struct jnode {
    enum jnode_kind kind;
    int line;
    int op;                     /* enum jtok; macros: JM_* */
    struct jnode *a, *b, *c, *body, *other, *next;
    const char *s, *name;
    struct jv value;
};
struct jinja { struct jnode *body; bool generates; };

/* --- the parser: jinja_expr.c has the expressions, jinja_parse.c the
 * statements.  The first failure is sticky, and from then on the parser sees
 * the end of the template. */
struct jparser {
    struct jlexer lex;
    struct arena *arena;
    struct jtoken t, ahead;
    bool has_ahead;
    int rc, depth;
    int64_t nodes;
    int loops;                  /* around this point, within its macro */
    int uses;                   /* JM_* of the macro around it */
    bool generates;
    struct jnode spare;         /* stands for any node after a failure */
};
struct jlist { struct jnode *first, **end; };
void jp_stop(struct jparser *p, int rc);
void jp_syntax(struct jparser *p, const char *problem);
void jp_advance(struct jparser *p);
struct jtoken *jp_look(struct jparser *p);
bool jp_at(const struct jparser *p, const char *name);
bool jp_accept(struct jparser *p, enum jtok type);
bool jp_accept_name(struct jparser *p, const char *name);
void jp_expect(struct jparser *p, enum jtok type, const char *what);
const char *jp_expect_name(struct jparser *p);
struct jnode *jp_node(struct jparser *p, enum jnode_kind kind);
struct jnode *jp_node_of(struct jparser *p, enum jnode_kind kind, struct jnode *a);
void jp_add(struct jparser *p, struct jlist *l, struct jnode *n);
/* False when the brackets or statements are nested too deep; depth-- leaves. */
bool jp_enter(struct jparser *p);
struct jnode *jp_expr(struct jparser *p);
struct jnode *jp_or(struct jparser *p);         /* without "if" */
struct jnode *jp_primary(struct jparser *p);
/* One item, or a tuple where commas part them.  `word` ends it, too. */
struct jnode *jp_tuple(struct jparser *p, struct jnode *(*item)(struct jparser *),
                       const char *word, bool empty_ok);
struct jnode *jp_filter(struct jparser *p, struct jnode *operand);

#endif
