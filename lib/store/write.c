/* What the writers share: the checks of what is to be written, and the bytes
 * of one tensor. */
#include "store/impl.h"

static int check_one(const struct store_out *t)
{
    int64_t count, bytes;
    if (t->n_dims < 0 || t->n_dims > 4)
        return fail(PEFT_EARG, "%d dimensions, expected 0 to 4", (int)t->n_dims);
    return shape_bytes(t->type, t->n_dims, t->dims, &count, &bytes);
}

int check_out(struct host *h, const struct store_out *t, int64_t n)
{
    struct map names;
    map_init(&names, &h->mem);
    int rc = PEFT_OK;
    for (int64_t i = 0; i < n && rc == PEFT_OK; i++) {
        rc = check_one(&t[i]);
        if (rc < 0) {
            fail_in(rc, "tensor %.100s cannot be written: ", t[i].name);
            break;
        }
        rc = map_add(&names, t[i].name, (int64_t)strlen(t[i].name), i);
        if (rc == 0) rc = fail(PEFT_EARG, "tensor %.100s would be written twice", t[i].name);
        else if (rc > 0) rc = PEFT_OK;
    }
    map_free(&names);
    return rc;
}

int64_t out_bytes(const struct store_out *t)
{
    int64_t count = 0, bytes = 0;
    shape_bytes(t->type, t->n_dims, t->dims, &count, &bytes);
    return bytes;
}

int put_out(const struct store_out *t, struct writer *w)
{
    int64_t bytes = out_bytes(t), from = writer_at(w);
    if (!t->put) {
        writer_put(w, t->data, bytes);
        return PEFT_OK;
    }
    int rc = t->put(t, w);
    if (rc < 0) return rc;
    if (writer_at(w) - from != bytes)
        return fail(PEFT_ESTATE, "tensor %.100s: %lld bytes were written, expected %lld", t->name,
                    (long long)(writer_at(w) - from), (long long)bytes);
    return PEFT_OK;
}
