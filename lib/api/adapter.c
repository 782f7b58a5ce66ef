/* peft_adapter_*. */
#include "api/api.h"

static int find(const peft_model *model, const char *name, struct adapter **out)
{
    *out = name ? adapter_find(model_of(model), name) : NULL;
    if (*out) return PEFT_OK;
    return fail(PEFT_ENOTFOUND, "the model has no adapter \"%s\"", name ? name : "");
}

int32_t peft_adapter_add(peft_model *model, const char *name, const peft_adapter_opts *opts)
{
    peft_adapter_opts o;
    ARG(model, "no model given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = no_trainers(model_of(model));
    return rc ? rc : adapter_add(model_of(model), name, &o);
}

int32_t peft_adapter_load(peft_model *model, const char *name, const char *path)
{
    ARG(model, "no model given");
    ARG(path && *path, "no path given");
    int rc = no_trainers(model_of(model));
    return rc ? rc : adapter_load(model_of(model), name, path);
}

int32_t peft_adapter_save_as(const peft_model *model, const char *name, const char *path,
                             const peft_adapter_save_opts *opts)
{
    peft_adapter_save_opts o;
    struct adapter *a;
    ARG(model, "no model given");
    ARG(path && *path, "no path given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = find(model, name, &a);
    return rc ? rc : adapter_save(model_of(model), a, path, &o);
}

int32_t peft_adapter_save(const peft_model *model, const char *name, const char *path)
{
    return peft_adapter_save_as(model, name, path, NULL);
}

/* For what would take it away from answers that are being made with it. */
static int not_in_use(const struct adapter *a)
{
    if (!a->users) return PEFT_OK;
    return fail(PEFT_ESTATE, "\"%s\" is answering %d requests, expected their end before", a->name,
                (int)a->users);
}

/* For what cannot be done while the adapter is folded into the weights. */
static int find_apart(peft_model *model, const char *name, struct adapter **out)
{
    int rc = find(model, name, out);
    if (!rc) rc = no_trainers(model_of(model));
    if (rc || !(*out)->n_merged) return rc;
    return fail(PEFT_ESTATE, "\"%s\" is in the weights, expected peft_adapter_set_merged before",
                name);
}

static int set_enabled(peft_model *model, const char *name, int on)
{
    struct adapter *a;
    ARG(model, "no model given");
    int rc = find_apart(model, name, &a);
    if (!rc && on) rc = virtual_alone(model_of(model), a);
    if (!rc) adapter_enable(model_of(model), a, on);
    return rc;
}

int32_t peft_adapter_enable(peft_model *model, const char *name)
{
    return set_enabled(model, name, 1);
}
int32_t peft_adapter_disable(peft_model *model, const char *name)
{
    return set_enabled(model, name, 0);
}

int32_t peft_adapter_remove(peft_model *model, const char *name)
{
    struct adapter *a;
    ARG(model, "no model given");
    int rc = find_apart(model, name, &a);
    if (!rc) rc = not_in_use(a);
    if (!rc) adapter_remove(model_of(model), a);
    return rc;
}

int32_t peft_adapter_merge(peft_model *model, const char *name)
{
    struct adapter *a;
    ARG(model, "no model given");
    int rc = find_apart(model, name, &a);
    if (!rc) rc = not_in_use(a);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = adapter_merge(model_of(model), a);
    fp_leave(fp);
    return rc;
}

int32_t peft_adapter_set_merged(peft_model *model, const char *name, int32_t on)
{
    struct adapter *a;
    ARG(model, "no model given");
    int rc = find(model, name, &a);
    if (!rc) rc = no_trainers(model_of(model));
    if (!rc) rc = not_in_use(a);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = adapter_set_merged(model_of(model), a, on != 0);
    fp_leave(fp);
    return rc;
}

int32_t peft_adapter_set_weight(peft_model *model, const char *name, float weight)
{
    struct adapter *a;
    ARG(model, "no model given");
    ARG(weight > -1e6f && weight < 1e6f, "weight %g, expected a finite number", (double)weight);
    int rc = find_apart(model, name, &a);
    return rc ? rc : adapter_set_weight(a, weight);
}

int32_t peft_adapter_combine(peft_model *model, const char *name, const char *const *names,
                             const float *weights, int32_t n, const peft_combine_opts *opts)
{
    peft_combine_opts o;
    struct adapter *from[64];
    ARG(model, "no model given");
    ARG(names && weights && n > 0 && n <= 64, "%d adapters given, expected 1 to 64", (int)n);
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = no_trainers(model_of(model));
    for (int32_t i = 0; i < n && !rc; i++) rc = find(model, names[i], &from[i]);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = adapter_combine(model_of(model), name, from, weights, n, &o);
    fp_leave(fp);
    return rc;
}

int32_t peft_adapter_init_eva(peft_model *model, const char *name, const peft_dataset *data,
                              const peft_eva_opts *opts)
{
    peft_eva_opts o;
    struct adapter *a;
    ARG(model && data, "no model or data set given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = find_apart(model, name, &a);
    if (rc) return rc;
    struct fp_mode fp = fp_enter();
    rc = eva_init(model_of(model), a, dataset_of(data), &o);
    fp_leave(fp);
    return rc;
}

int32_t peft_adapter_check(const char *dir, const peft_check_opts *opts, peft_adapter_report *out)
{
    peft_check_opts o;
    peft_adapter_report mine = { .size = sizeof(mine) };
    struct host h;
    ARG(dir && *dir, "no folder given");
    int rc = take_options(&o, sizeof(o), opts);
    if (!rc) rc = check_result(out);
    if (!rc && !o.base) rc = host_init(&h, o.host);
    if (rc) return rc;
    const struct model *base = o.base ? model_of(o.base) : NULL;
    /* The base's memory is only borrowed, so that it need not be the caller's alone. */
    rc = adapter_check(base ? &model_of(o.base)->host : &h, base, dir, o.reader, &mine);
    if (!rc) give_result(out, &mine, sizeof(mine));
    return rc;
}
