"""The speed of llama.cpp, as bench/generate.c measures ours: the same ids, greedy.

    python bench/llama.py MODEL.gguf THREADS PROMPT TOKENS ROUNDS [plain]

By llama-cpp-python, or by xllamacpp, whose wheel is built for AVX2.  `plain`: without
repacked weights and AMX, whose kernels crash as compiled by gcc 12.
"""
import ctypes
import json
import sys
import time


def prompt_of(round_, n):
    return [300 + (round_ * 131 + k * 17) % 20000 for k in range(n)]


def by_llama_cpp(path, plain, threads, prompt, tokens, rounds):
    import llama_cpp as l
    import numpy as np
    l.llama_backend_init()
    params = l.llama_model_default_params()
    params.use_extra_bufts = not plain
    model = l.llama_model_load_from_file(path.encode(), params)
    options = l.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = prompt + tokens + 64, 512, 512
    options.n_threads = options.n_threads_batch = threads
    context = l.llama_init_from_model(model, options)
    vocab = l.llama_vocab_n_tokens(l.llama_model_get_vocab(model))

    def decode(ids):
        array = (l.llama_token * len(ids))(*ids)
        if l.llama_decode(context, l.llama_batch_get_one(array, len(ids))):
            sys.exit("llama_decode failed")
        z = ctypes.cast(l.llama_get_logits_ith(context, -1), ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(z, (vocab,)).argmax())

    for round_ in range(rounds):
        l.llama_memory_clear(l.llama_get_memory(context), True)
        start = time.monotonic()
        for i in range(0, prompt, 512):
            last = decode(prompt_of(round_, prompt)[i:i + 512])
        middle = time.monotonic()
        for _ in range(tokens - 1):
            last = decode([last])
        yield prompt / (middle - start), (tokens - 1) / (time.monotonic() - middle)


def by_xllamacpp(path, _plain, threads, prompt, tokens, rounds):
    import xllamacpp as x
    options = x.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel = path, prompt + tokens + 64, 1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = x.Server(options)
    for round_ in range(rounds):
        asked = {"prompt": prompt_of(round_, prompt), "n_predict": tokens, "temperature": 0,
                 "cache_prompt": False, "ignore_eos": True}
        t = server.handle_completions(asked)["timings"]
        yield t["prompt_per_second"], t["predicted_per_second"]


def main():
    path, numbers, plain = sys.argv[1], [int(x) for x in sys.argv[2:6]], "plain" in sys.argv[6:]
    try:
        import llama_cpp                                        # noqa: F401
        run = by_llama_cpp
        name = "llama-cpp-python %s%s" % (llama_cpp.__version__, ", plain" * plain)
        name += " (%s)" % llama_cpp.llama_print_system_info().decode().strip(" |")
    except ImportError:
        run, name = by_xllamacpp, "xllamacpp"
    speeds = list(run(path, plain, *numbers))
    print(json.dumps({"version": name, "prompt_tokens_per_second": max(s[0] for s in speeds),
                      "tokens_per_second": max(s[1] for s in speeds)}))


main()
