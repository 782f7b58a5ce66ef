/* Jinja's expressions: tokens to a syntax tree, by recursive descent with jinja2's
 * precedences, from loose to tight:
 *
 *   a if b else c | or | and | not | == < in | + - | ~ | * / // % | ** |
 *   unary - + | .name [index] (call) | |filter is test
 *
 * A chain of one level is one node with a list of operands, so the tree's
 * depth is that of the brackets. */
#include "text/jinja_node.h"

/* --- tokens */

void jp_stop(struct jparser *p, int rc)
{
    if (p->rc == PEFT_OK) p->rc = rc;
    p->t = (struct jtoken){.line = p->t.line};
    p->has_ahead = false;
}

void jp_syntax(struct jparser *p, const char *problem)
{
    if (p->rc == PEFT_OK)
        jp_stop(p, fail(PEFT_EFORMAT, "chat template line %d: %s%s%.40s%s", p->t.line, problem,
                     p->t.type == JT_NAME ? ", found \"" : "",
                     p->t.type == JT_NAME ? p->t.s : "", p->t.type == JT_NAME ? "\"" : ""));
}

void jp_advance(struct jparser *p)
{
    if (p->rc < 0) return;
    if (p->has_ahead) {
        p->t = p->ahead;
        p->has_ahead = false;
        return;
    }
    int rc = jlex_next(&p->lex, &p->t);
    if (rc < 0) jp_stop(p, rc);
}

struct jtoken *jp_look(struct jparser *p)
{
    if (!p->has_ahead && p->rc == PEFT_OK) {
        int rc = jlex_next(&p->lex, &p->ahead);
        if (rc < 0) jp_stop(p, rc);
        else p->has_ahead = true;
    }
    return p->has_ahead ? &p->ahead : &p->t;
}

bool jp_at(const struct jparser *p, const char *name)
{
    return p->t.type == JT_NAME && !strcmp(p->t.s, name);
}

bool jp_accept(struct jparser *p, enum jtok type)
{
    if (p->t.type != type || p->rc < 0) return false;
    jp_advance(p);
    return true;
}

bool jp_accept_name(struct jparser *p, const char *name)
{
    if (!jp_at(p, name)) return false;
    jp_advance(p);
    return true;
}

void jp_expect(struct jparser *p, enum jtok type, const char *what)
{
    if (!jp_accept(p, type)) jp_syntax(p, what);
}

const char *jp_expect_name(struct jparser *p)
{
    const char *s = p->t.type == JT_NAME ? p->t.s : "";
    jp_expect(p, JT_NAME, "expected a name");
    return s;
}

/* --- nodes */

struct jnode *jp_node(struct jparser *p, enum jnode_kind kind)
{
    struct jnode *n = NULL;
    if (p->rc == PEFT_OK && ++p->nodes > JINJA_NODES)
        jp_stop(p, fail(PEFT_EFORMAT, "chat template: more than %d parts", JINJA_NODES));
    if (p->rc == PEFT_OK && !(n = arena_alloc(p->arena, (int64_t)sizeof *n)))
        jp_stop(p, PEFT_ENOMEM);
    if (!n) {
        n = &p->spare;
        *n = (struct jnode){0};
    }
    n->kind = kind;
    n->line = p->t.line;
    return n;
}

struct jnode *jp_node_of(struct jparser *p, enum jnode_kind kind, struct jnode *a)
{
    struct jnode *n = jp_node(p, kind);
    n->a = a;
    return n;
}

void jp_add(struct jparser *p, struct jlist *l, struct jnode *n)
{
    if (p->rc < 0) return;
    if (l->end) *l->end = n;
    else l->first = n;
    l->end = &n->next;
}

/* False when the brackets or statements are nested too deep. */
bool jp_enter(struct jparser *p)
{
    if (++p->depth <= JINJA_NESTING) return true;
    jp_syntax(p, "nested deeper than 64");
    return false;
}

/* --- expressions */

static struct jnode *parse_unary(struct jparser *p, bool filters);

static struct jnode *parse_const(struct jparser *p, struct jv value)
{
    struct jnode *n = jp_node(p, JN_CONST);
    n->value = value;
    jp_advance(p);
    return n;
}

static struct jnode *parse_name(struct jparser *p)
{
    static const struct { const char *name; uint8_t kind; int value; } words[] = {
        {"true", JV_BOOL, 1}, {"True", JV_BOOL, 1}, {"false", JV_BOOL, 0},
        {"False", JV_BOOL, 0}, {"none", JV_NONE, 0}, {"None", JV_NONE, 0},
    };
    static const struct { const char *name; int use; } special[] = {
        {"caller", JM_CALLER}, {"kwargs", JM_KWARGS}, {"varargs", JM_VARARGS},
    };
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (jp_at(p, words[i].name))
            return parse_const(p, (struct jv){.kind = words[i].kind, .i = words[i].value});
    for (size_t i = 0; i < ARRAY_LEN(special); i++)
        if (jp_at(p, special[i].name)) p->uses |= special[i].use;
    struct jnode *n = jp_node(p, JN_NAME);
    n->s = jp_expect_name(p);
    return n;
}

/* Strings that stand side by side are one. */
static struct jnode *parse_string(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_CONST);
    n->value = jv_str(p->t.s, p->t.n);
    jp_advance(p);
    while (p->t.type == JT_STRING) {
        char *s = arena_alloc(p->arena, n->value.n + p->t.n + 1);
        if (!s) {
            jp_stop(p, PEFT_ENOMEM);
            break;
        }
        memcpy(s, n->value.s, (size_t)n->value.n);
        memcpy(s + n->value.n, p->t.s, (size_t)p->t.n);
        n->value = jv_str(s, n->value.n + p->t.n);
        jp_advance(p);
    }
    return n;
}

static bool tuple_end(const struct jparser *p, const char *word)
{
    return p->t.type == JT_VAR_END || p->t.type == JT_BLOCK_END || p->t.type == JT_RPAREN ||
           p->rc < 0 || (word && jp_at(p, word));
}

/* One item, or a tuple where commas part them.  `word` ends it, too. */
struct jnode *jp_tuple(struct jparser *p, struct jnode *(*item)(struct jparser *),
                                 const char *word, bool empty_ok)
{
    struct jlist l = {0};
    bool tuple = false;
    struct jnode *n = jp_node(p, JN_TUPLE);
    while (!tuple_end(p, word)) {
        jp_add(p, &l, item(p));
        if (!jp_accept(p, JT_COMMA)) break;
        tuple = true;
    }
    if (!tuple && l.first) return l.first;
    if (!l.first && !empty_ok) jp_syntax(p, "expected an expression");
    n->a = l.first;
    return n;
}

static struct jnode *parse_list(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_LIST);
    struct jlist l = {0};
    jp_advance(p);
    while (p->t.type != JT_RBRACKET && p->rc == PEFT_OK) {
        jp_add(p, &l, jp_expr(p));
        if (!jp_accept(p, JT_COMMA)) break;
    }
    jp_expect(p, JT_RBRACKET, "expected \"]\"");
    n->a = l.first;
    return n;
}

static struct jnode *parse_dict(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_DICT);
    struct jlist l = {0};
    jp_advance(p);
    while (p->t.type != JT_RBRACE && p->rc == PEFT_OK) {
        jp_add(p, &l, jp_expr(p));
        jp_expect(p, JT_COLON, "expected \":\"");
        jp_add(p, &l, jp_expr(p));
        if (!jp_accept(p, JT_COMMA)) break;
    }
    jp_expect(p, JT_RBRACE, "expected \"}\"");
    n->a = l.first;
    return n;
}

struct jnode *jp_primary(struct jparser *p)
{
    struct jnode *n;
    switch (p->t.type) {
    case JT_NAME: return parse_name(p);
    case JT_STRING: return parse_string(p);
    case JT_INT: return parse_const(p, jv_int(p->t.i));
    case JT_FLOAT: return parse_const(p, jv_float(p->t.f));
    case JT_LBRACKET: return parse_list(p);
    case JT_LBRACE: return parse_dict(p);
    case JT_LPAREN:
        jp_advance(p);
        n = jp_tuple(p, jp_expr, NULL, true);
        jp_expect(p, JT_RPAREN, "expected \")\"");
        return n;
    default:
        jp_syntax(p, "expected an expression");
        return jp_node(p, JN_CONST);
    }
}

/* Arguments behind "(". */
static struct jnode *parse_args(struct jparser *p)
{
    struct jlist l = {0};
    enum jnode_kind last = JN_ARG;
    jp_expect(p, JT_LPAREN, "expected \"(\"");
    while (p->t.type != JT_RPAREN && p->rc == PEFT_OK) {
        struct jnode *arg = jp_node(p, JN_ARG);
        if (jp_accept(p, JT_MUL)) arg->kind = JN_STAR;
        else if (jp_accept(p, JT_POW)) arg->kind = JN_STAR2;
        else if (p->t.type == JT_NAME && jp_look(p)->type == JT_ASSIGN) {
            arg->kind = JN_KEYWORD;
            arg->s = p->t.s;
            jp_advance(p);
            jp_advance(p);
        }
        if ((arg->kind == JN_ARG && last != JN_ARG) || last == JN_STAR2 ||
            (arg->kind == JN_STAR && last == JN_STAR))
            jp_syntax(p, "arguments in a wrong order");
        if (arg->kind != JN_KEYWORD || last == JN_ARG) last = arg->kind;
        arg->a = jp_expr(p);
        jp_add(p, &l, arg);
        if (!jp_accept(p, JT_COMMA)) break;
    }
    jp_expect(p, JT_RPAREN, "expected \")\"");
    return l.first;
}

static struct jnode *parse_call(struct jparser *p, struct jnode *callee)
{
    struct jnode *n = jp_node_of(p, JN_CALL, callee);
    n->b = parse_args(p);
    return n;
}

static struct jnode *slice_part(struct jparser *p)
{
    bool absent = p->t.type == JT_COLON || p->t.type == JT_RBRACKET || p->t.type == JT_COMMA;
    return absent ? NULL : jp_expr(p);
}

/* What stands in brackets: an index, a tuple of them, or a slice. */
static struct jnode *parse_subscript(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jp_node_of(p, JN_INDEX, of);
    jp_advance(p);
    struct jnode *first = p->t.type == JT_COLON ? NULL : jp_expr(p);
    if (jp_accept(p, JT_COLON)) {
        n->kind = JN_SLICE;
        n->b = first;
        n->c = slice_part(p);
        if (jp_accept(p, JT_COLON)) n->body = slice_part(p);
        if (p->t.type == JT_COMMA) jp_syntax(p, "a tuple with a slice is no index");
    } else if (p->t.type == JT_COMMA) {
        struct jlist l = {0};
        n->b = jp_node(p, JN_TUPLE);
        jp_add(p, &l, first);
        while (jp_accept(p, JT_COMMA)) jp_add(p, &l, jp_expr(p));
        n->b->a = l.first;
    } else {
        n->b = first;
    }
    jp_expect(p, JT_RBRACKET, "expected \"]\"");
    return n;
}

static struct jnode *parse_dot(struct jparser *p, struct jnode *of)
{
    struct jnode *n = jp_node_of(p, JN_ATTR, of);
    jp_advance(p);
    if (p->t.type == JT_INT) {
        n->kind = JN_INDEX;
        n->b = parse_const(p, jv_int(p->t.i));
        return n;
    }
    n->s = jp_expect_name(p);
    return n;
}

static struct jnode *parse_postfix(struct jparser *p, struct jnode *n)
{
    while (p->rc == PEFT_OK) {
        if (p->t.type == JT_DOT) n = parse_dot(p, n);
        else if (p->t.type == JT_LBRACKET) n = parse_subscript(p, n);
        else if (p->t.type == JT_LPAREN) n = parse_call(p, n);
        else break;
    }
    return n;
}

struct jnode *jp_filter(struct jparser *p, struct jnode *operand)
{
    struct jnode *n = jp_node_of(p, JN_FILTER, operand);
    n->s = jp_expect_name(p);
    if (p->t.type == JT_LPAREN) n->b = parse_args(p);
    return n;
}

static bool begins_test_argument(const struct jparser *p)
{
    static const char *const words[] = {"else", "or", "and"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (jp_at(p, words[i])) return false;
    return p->t.type == JT_NAME || p->t.type == JT_STRING || p->t.type == JT_INT ||
           p->t.type == JT_FLOAT || p->t.type == JT_LBRACKET || p->t.type == JT_LBRACE;
}

static struct jnode *parse_test(struct jparser *p, struct jnode *operand)
{
    struct jnode *n = jp_node_of(p, JN_TEST, operand);
    bool negated = jp_accept_name(p, "not");
    n->s = jp_expect_name(p);
    if (p->t.type == JT_LPAREN) n->b = parse_args(p);
    else if (begins_test_argument(p)) {
        if (jp_at(p, "is")) jp_syntax(p, "tests cannot be chained");
        n->b = jp_node(p, JN_ARG);
        n->b->a = parse_postfix(p, jp_primary(p));
    }
    return negated ? jp_node_of(p, JN_NOT, n) : n;
}

static struct jnode *parse_filters(struct jparser *p, struct jnode *n)
{
    while (p->rc == PEFT_OK) {
        if (jp_accept(p, JT_PIPE)) n = jp_filter(p, n);
        else if (jp_accept_name(p, "is")) n = parse_test(p, n);
        else if (p->t.type == JT_LPAREN) n = parse_call(p, n);
        else break;
    }
    return n;
}

static struct jnode *parse_unary(struct jparser *p, bool filters)
{
    struct jnode *n;
    if (!jp_enter(p)) return jp_node(p, JN_CONST);
    if (p->t.type == JT_SUB || p->t.type == JT_ADD) {
        n = jp_node(p, p->t.type == JT_SUB ? JN_NEG : JN_POS);
        jp_advance(p);
        n->a = parse_unary(p, false);
    } else {
        n = jp_primary(p);
    }
    n = parse_postfix(p, n);
    if (filters) n = parse_filters(p, n);
    p->depth--;
    return n;
}

/* Operators of one level, with operands of the next. */
static struct jnode *parse_pow(struct jparser *p);
static struct jnode *parse_product(struct jparser *p);
static struct jnode *parse_concat(struct jparser *p);

static struct jnode *parse_chain(struct jparser *p, struct jnode *(*operand)(struct jparser *),
                                 enum jtok from, enum jtok to)
{
    struct jnode *first = operand(p);
    if (p->t.type < from || p->t.type > to) return first;
    struct jnode *n = jp_node_of(p, JN_MATH, first);
    struct jlist l = {first, &first->next};
    while (p->t.type >= from && p->t.type <= to) {
        struct jnode *o = jp_node(p, JN_OPERAND);
        o->op = (int)p->t.type;
        jp_advance(p);
        o->a = operand(p);
        jp_add(p, &l, o);
    }
    return n;
}

static struct jnode *parse_factor(struct jparser *p) { return parse_unary(p, true); }
static struct jnode *parse_pow(struct jparser *p)
{
    return parse_chain(p, parse_factor, JT_POW, JT_POW);
}
static struct jnode *parse_product(struct jparser *p)
{
    return parse_chain(p, parse_pow, JT_MUL, JT_MOD);
}
static struct jnode *parse_sum(struct jparser *p)
{
    return parse_chain(p, parse_concat, JT_ADD, JT_SUB);
}

static struct jnode *parse_concat(struct jparser *p)
{
    struct jnode *first = parse_product(p);
    if (p->t.type != JT_TILDE) return first;
    struct jnode *n = jp_node_of(p, JN_CONCAT, first);
    struct jlist l = {first, &first->next};
    while (jp_accept(p, JT_TILDE)) jp_add(p, &l, parse_product(p));
    return n;
}

/* The comparison that stands here, consumed, or JT_END. */
static enum jtok comparison(struct jparser *p)
{
    enum jtok op = p->t.type;
    if (op >= JT_EQ && op <= JT_GE) {
        jp_advance(p);
        return op;
    }
    if (jp_accept_name(p, "in")) return JT_IN;
    bool not_in = jp_at(p, "not") && jp_look(p)->type == JT_NAME && !strcmp(jp_look(p)->s, "in");
    if (!not_in) return JT_END;
    jp_advance(p);
    jp_advance(p);
    return JT_NOT_IN;
}

static struct jnode *parse_compare(struct jparser *p)
{
    struct jnode *first = parse_sum(p), *n = NULL;
    struct jlist l = {first, &first->next};
    enum jtok op;
    while (p->rc == PEFT_OK && (op = comparison(p)) != JT_END) {
        if (!n) n = jp_node_of(p, JN_COMPARE, first);
        struct jnode *o = jp_node(p, JN_OPERAND);
        o->op = (int)op;
        o->a = parse_sum(p);
        jp_add(p, &l, o);
    }
    return n ? n : first;
}

static struct jnode *parse_not(struct jparser *p)
{
    if (!jp_at(p, "not")) return parse_compare(p);
    struct jnode *n = jp_node(p, JN_NOT);
    if (!jp_enter(p)) return n;
    jp_advance(p);
    n->a = parse_not(p);
    p->depth--;
    return n;
}

static struct jnode *parse_words(struct jparser *p, struct jnode *(*operand)(struct jparser *),
                                 const char *word, enum jnode_kind kind)
{
    struct jnode *first = operand(p);
    if (!jp_at(p, word)) return first;
    struct jnode *n = jp_node_of(p, kind, first);
    struct jlist l = {first, &first->next};
    while (jp_accept_name(p, word)) jp_add(p, &l, operand(p));
    return n;
}

static struct jnode *parse_and(struct jparser *p)
{
    return parse_words(p, parse_not, "and", JN_AND);
}
struct jnode *jp_or(struct jparser *p)
{
    return parse_words(p, parse_and, "or", JN_OR);
}

struct jnode *jp_expr(struct jparser *p)
{
    if (!jp_enter(p)) return jp_node(p, JN_CONST);
    struct jnode *n = jp_or(p);
    while (jp_accept_name(p, "if")) {
        struct jnode *cond = jp_node(p, JN_COND);
        cond->b = n;
        cond->a = jp_or(p);
        if (jp_accept_name(p, "else")) cond->c = jp_expr(p);
        n = cond;
    }
    p->depth--;
    return n;
}
