/* The kernel tables by processor level. */
#include "kernel/level.h"

const char *const act_names[ACT_COUNT] = {
    [ACT_NONE] = "none", [ACT_SILU] = "silu", [ACT_GELU] = "gelu", [ACT_GELU_TANH] = "gelu_tanh",
    [ACT_RELU] = "relu", [ACT_TANH] = "tanh", [ACT_SIGMOID] = "sigmoid",
    [ACT_QUICK_GELU] = "quick_gelu",
};

static const struct level *level_get(enum cpu_level level)
{
    switch (level) {
    case CPU_C: return level_c;
    case CPU_AVX2: return level_avx2;
    case CPU_AVX512: return level_avx512;
    case CPU_NEON: return level_neon;
    default: return NULL;
    }
}

const struct kernels *kernels_get(enum cpu_level level)
{
    const struct level *l = level_get(level);
    return l ? &l->kernels : NULL;
}

const struct level *level_of(const struct kernels *k)
{
    for (int i = 0; i < CPU_LEVELS; i++) {
        const struct level *l = level_get((enum cpu_level)i);
        if (l && &l->kernels == k) return l;
    }
    return level_c;
}
