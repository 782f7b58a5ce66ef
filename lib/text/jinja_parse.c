/* Jinja's statements: {% for %}, {% if %}, {% set %} ... to a syntax tree. */
#include "text/jinja_node.h"

static struct jnode *parse_body(struct jparser *p, const char *const *ends);

/* The body of a statement whose tag is about to close, up to one of `ends`,
 * which is left as the current token. */
static struct jnode *statements(struct jparser *p, const char *a, const char *b, const char *c)
{
    const char *const ends[] = {a, b, c, NULL};
    jp_accept(p, JT_COLON);
    jp_expect(p, JT_BLOCK_END, "expected \"%}\"");
    struct jnode *body = parse_body(p, ends);
    if (p->t.type == JT_END && p->rc == PEFT_OK)
        jp_stop(p, fail(PEFT_EFORMAT, "chat template line %d: the template ends without {%% %s %%}",
                        p->t.line, c ? c : b ? b : a));
    return body;
}

/* ... and behind the end tag. */
static struct jnode *body_until(struct jparser *p, const char *end)
{
    struct jnode *body = statements(p, end, NULL, NULL);
    jp_advance(p);
    return body;
}

/* --- targets of assignments */

static struct jnode *target_item(struct jparser *p)
{
    if (p->t.type == JT_NAME && jp_look(p)->type == JT_DOT) {
        struct jnode *n = jp_node(p, JN_NS_ATTR);
        n->s = p->t.s;
        jp_advance(p);
        jp_advance(p);
        n->name = jp_expect_name(p);
        return n;
    }
    return jp_primary(p);
}

static void check_target(struct jparser *p, const struct jnode *n, bool attr)
{
    bool ok = n->kind == JN_NAME || (n->kind == JN_NS_ATTR && attr);
    if (n->kind == JN_TUPLE) {
        for (const struct jnode *k = n->a; k; k = k->next) check_target(p, k, attr);
        return;
    }
    if (!ok) jp_syntax(p, "this cannot be assigned to");
}

static struct jnode *parse_target(struct jparser *p, const char *word, bool attr)
{
    struct jnode *n = jp_tuple(p, attr ? target_item : jp_primary, word, false);
    if (p->rc == PEFT_OK) check_target(p, n, attr);
    return n;
}

/* --- statements; each stands behind its name */

static struct jnode *parse_for(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_FOR);
    n->a = parse_target(p, "in", false);
    if (!jp_accept_name(p, "in")) jp_syntax(p, "expected \"in\"");
    n->b = jp_tuple(p, jp_or, "recursive", false);
    if (jp_accept_name(p, "if")) n->c = jp_expr(p);
    if (jp_at(p, "recursive"))
        jp_stop(p, fail(PEFT_EUNSUPPORTED, "chat template line %d: a recursive loop", n->line));
    p->loops++;
    n->body = statements(p, "endfor", "else", NULL);
    p->loops--;
    bool other = jp_at(p, "else");
    jp_advance(p);
    if (other) n->other = body_until(p, "endfor");
    return n;
}

static struct jnode *parse_if(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_IF);
    struct jlist l = {0};
    bool more = true, last = false;
    while (more && p->rc == PEFT_OK) {
        struct jnode *branch = jp_node(p, JN_BRANCH);
        if (!last) branch->a = jp_tuple(p, jp_or, NULL, false);
        branch->body = last ? statements(p, "endif", NULL, NULL)
                            : statements(p, "elif", "else", "endif");
        jp_add(p, &l, branch);
        more = !jp_at(p, "endif");
        last = jp_at(p, "else");
        jp_advance(p);
    }
    n->a = l.first;
    return n;
}

static struct jnode *parse_set(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_SET);
    n->a = parse_target(p, NULL, true);
    if (jp_accept(p, JT_ASSIGN)) {
        n->b = jp_tuple(p, jp_expr, NULL, false);
        return n;
    }
    n->kind = JN_SET_BLOCK;
    while (jp_accept(p, JT_PIPE)) n->b = jp_filter(p, n->b);
    n->body = body_until(p, "endset");
    return n;
}

static struct jnode *parse_with(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_WITH);
    struct jlist targets = {0}, values = {0};
    while (p->t.type != JT_BLOCK_END && p->rc == PEFT_OK) {
        struct jnode *target = jp_primary(p);
        if (p->rc == PEFT_OK) check_target(p, target, false);
        jp_add(p, &targets, target);
        jp_expect(p, JT_ASSIGN, "expected \"=\"");
        jp_add(p, &values, jp_expr(p));
        if (p->t.type != JT_BLOCK_END) jp_expect(p, JT_COMMA, "expected \",\"");
    }
    n->a = targets.first;
    n->b = values.first;
    n->body = body_until(p, "endwith");
    return n;
}

static struct jnode *parse_params(struct jparser *p)
{
    struct jlist l = {0};
    bool defaults = false;
    jp_expect(p, JT_LPAREN, "expected \"(\"");
    while (p->t.type != JT_RPAREN && p->rc == PEFT_OK) {
        struct jnode *param = jp_node(p, JN_ARG);
        param->s = jp_expect_name(p);
        if (jp_accept(p, JT_ASSIGN)) {
            param->a = jp_expr(p);
            defaults = true;
        } else if (defaults) {
            jp_syntax(p, "a parameter without default behind one with it");
        }
        jp_add(p, &l, param);
        if (p->t.type != JT_RPAREN) jp_expect(p, JT_COMMA, "expected \",\"");
    }
    jp_expect(p, JT_RPAREN, "expected \")\"");
    return l.first;
}

/* A body that runs on its own: the loops around it cannot be left from it. */
static void macro_body(struct jparser *p, struct jnode *n, const char *end)
{
    int loops = p->loops, uses = p->uses;
    p->loops = p->uses = 0;
    n->body = body_until(p, end);
    n->op = p->uses;
    p->loops = loops;
    p->uses |= uses;
}

static struct jnode *parse_macro(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_MACRO);
    n->s = jp_expect_name(p);
    n->a = parse_params(p);
    macro_body(p, n, "endmacro");
    return n;
}

static struct jnode *parse_call_block(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_CALL_BLOCK);
    n->s = "caller";
    if (p->t.type == JT_LPAREN) n->a = parse_params(p);
    n->b = jp_expr(p);
    if (n->b->kind != JN_CALL) jp_syntax(p, "expected a call");
    macro_body(p, n, "endcall");
    return n;
}

static struct jnode *parse_filter_block(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_FILTER_BLOCK);
    n->b = jp_filter(p, NULL);
    while (jp_accept(p, JT_PIPE)) n->b = jp_filter(p, n->b);
    n->body = body_until(p, "endfilter");
    return n;
}

static struct jnode *parse_generation(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_GENERATION);
    p->generates = true;
    macro_body(p, n, "endgeneration");
    return n;
}

static struct jnode *leave_loop(struct jparser *p, enum jnode_kind kind)
{
    if (!p->loops) jp_syntax(p, "break or continue outside a loop");
    return jp_node(p, kind);
}
static struct jnode *parse_break(struct jparser *p) { return leave_loop(p, JN_BREAK); }
static struct jnode *parse_continue(struct jparser *p) { return leave_loop(p, JN_CONTINUE); }

static struct jnode *parse_print(struct jparser *p)
{
    struct jnode *n = jp_node(p, JN_OUTPUT);
    n->a = jp_expr(p);
    return n;
}

static const struct { const char *name; struct jnode *(*parse)(struct jparser *p); } tags[] = {
    {"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro},
    {"generation", parse_generation}, {"break", parse_break}, {"continue", parse_continue},
    {"with", parse_with}, {"call", parse_call_block}, {"filter", parse_filter_block},
    {"print", parse_print},
};
/* These reach for other files. */
static const char *const refused_tags[] = {
    "include", "import", "from", "extends", "block", "autoescape",
};

static struct jnode *parse_statement(struct jparser *p)
{
    for (size_t i = 0; i < ARRAY_LEN(tags); i++)
        if (jp_accept_name(p, tags[i].name)) return tags[i].parse(p);
    for (size_t i = 0; i < ARRAY_LEN(refused_tags); i++)
        if (jp_at(p, refused_tags[i]))
            jp_stop(p, fail(PEFT_EUNSUPPORTED, "chat template line %d: {%% %s %%} is not for chat "
                            "templates", p->t.line, refused_tags[i]));
    jp_syntax(p, "unknown statement");
    return jp_node(p, JN_TEXT);
}

static bool at_end_tag(const struct jparser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (jp_at(p, *ends)) return true;
    return false;
}

/* Line ends in text are written as they are; `ends` NULL = the whole template. */
static struct jnode *parse_body(struct jparser *p, const char *const *ends)
{
    struct jlist l = {0};
    struct jnode *n;
    if (!jp_enter(p)) return NULL;
    while (p->t.type != JT_END) {
        if (p->t.type == JT_TEXT) {
            n = jp_node(p, JN_TEXT);
            n->value = jv_str(p->t.s, p->t.n);
            jp_advance(p);
        } else if (jp_accept(p, JT_VAR)) {
            n = jp_node(p, JN_OUTPUT);
            n->a = jp_tuple(p, jp_expr, NULL, false);
            jp_expect(p, JT_VAR_END, "expected \"}}\"");
        } else {
            jp_expect(p, JT_BLOCK, "expected a statement");
            if (at_end_tag(p, ends)) break;
            n = parse_statement(p);
            jp_expect(p, JT_BLOCK_END, "expected \"%}\"");
        }
        jp_add(p, &l, n);
    }
    p->depth--;
    return l.first;
}

int jinja_parse(struct arena *a, const char *text, int64_t n, struct jinja **out)
{
    struct jparser p = {.arena = a};
    *out = NULL;
    int rc = jlex_begin(&p.lex, a, text, n);
    struct jinja *j = rc < 0 ? NULL : arena_alloc(a, (int64_t)sizeof *j);
    if (!j) return rc < 0 ? rc : PEFT_ENOMEM;
    jp_advance(&p);
    j->body = parse_body(&p, NULL);
    j->generates = p.generates;
    if (p.rc == PEFT_OK) *out = j;
    return p.rc;
}

bool jinja_generates(const struct jinja *j)
{
    return j->generates;
}
