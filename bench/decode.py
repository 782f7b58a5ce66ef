"""Prompt and decode speed, libpeft and llama.cpp in turns on one GGUF file.

Both read the same prompt and answer greedily with the same number of threads; the
best of some rounds counts.  Prints a table, writes decode.json.  The peer is
the Python package llama-cpp-python, or xllamacpp, whichever --python has; which
instructions its build uses is written down, for wheels use fewer than a build on
the machine.  --extra 0 turns its repacked weights and AMX off, whose kernels crash
as compiled by gcc 12.  With --peer this file is the other side.
"""
import argparse
import json
import os
import subprocess
import sys
import time

WORDS = "the of and to in is for that with on as by at from it an be are this was or not".split()


def make_prompt(tokens):
    """About one token a word, the same on both sides."""
    return " ".join(WORDS[i * i % len(WORDS)] for i in range(tokens - 1))


def result(n_prompt, prompt, n, rest):
    return {"prompt_tokens": n_prompt, "tokens": n, "prompt_seconds": prompt,
            "decode_seconds": rest, "prompt_per_second": n_prompt / prompt,
            "decode_per_second": (n - 1) / rest}


def peer_llama_cpp(args):
    import ctypes
    import llama_cpp as L
    params = L.llama_model_default_params()
    params.use_extra_bufts = args.extra > 0
    model = L.llama_model_load_from_file(args.model.encode(), params)
    text = make_prompt(args.prompt).encode()
    ids = (L.llama_token * (len(text) + 8))()
    n = L.llama_tokenize(L.llama_model_get_vocab(model), text, len(text), ids, len(ids), True,
                         True)
    options = L.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch = n + args.tokens + 8, 512, 512
    options.n_threads = options.n_threads_batch = args.threads
    context = L.llama_init_from_model(model, options)
    sampler, one, best = L.llama_sampler_init_greedy(), (L.llama_token * 1)(), None
    for _ in range(args.rounds):
        L.llama_memory_clear(L.llama_get_memory(context), True)
        start = time.monotonic()
        for at in range(0, n, 512):
            size = min(512, n - at)
            part = ctypes.cast(ctypes.byref(ids, at * 4), ctypes.POINTER(L.llama_token))
            assert L.llama_decode(context, L.llama_batch_get_one(part, size)) == 0
        one[0] = L.llama_sampler_sample(sampler, context, -1)
        middle = time.monotonic()
        for _ in range(args.tokens - 1):
            assert L.llama_decode(context, L.llama_batch_get_one(one, 1)) == 0
            one[0] = L.llama_sampler_sample(sampler, context, -1)
        now = result(n, middle - start, args.tokens, time.monotonic() - middle)
        best = faster(best, now)
    best["peer"] = "llama-cpp-python " + L.__version__
    best["instructions"] = L.llama_print_system_info().decode()
    return best


def peer_xllamacpp(args):
    import xllamacpp as x
    p = x.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.verbosity = args.model, args.prompt * 2 + 256, 1, -1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = args.threads
    server, best = x.Server(p), None
    for _ in range(args.rounds):
        out = server.handle_completions({
            "prompt": make_prompt(args.prompt), "n_predict": args.tokens, "temperature": 0,
            "cache_prompt": False, "ignore_eos": True})
        t = (out if isinstance(out, dict) else json.loads(out))["timings"]
        n = t["predicted_n"]
        best = faster(best, result(t["prompt_n"], t["prompt_ms"] / 1e3, n,
                                   t["predicted_ms"] / 1e3 * (n - 1) / n))
    best["peer"], best["instructions"] = "xllamacpp", x.get_system_info()
    return best


def faster(a, b):
    """Of prompt and decode each the better."""
    if not a:
        return b
    for part in ("prompt", "decode"):
        if b[part + "_seconds"] < a[part + "_seconds"]:
            for kind in ("seconds", "per_second"):
                a[part + "_" + kind] = b[part + "_" + kind]
    return a


def ours(args, compute):
    best = None
    for _ in range(args.rounds):
        run = subprocess.run(
            [args.peft, "generate", args.model, "--raw", "--prompt", make_prompt(args.prompt),
             "--max-tokens", str(args.tokens), "--temperature", "0", "--threads",
             str(args.threads), "--compute", compute, "--json", "--quiet"],
            stdout=subprocess.PIPE, check=True)
        d = json.loads(run.stdout)
        best = faster(best, result(d["prompt_tokens"], d["prompt_seconds"], d["tokens"],
                                   d["seconds"] - d["prompt_seconds"]))
    return best


def peer(args):
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        return peer_xllamacpp(args)
    return peer_llama_cpp(args)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--model", required=True)
    for name, default in (("peft", "build/release/peft"), ("python", ""), ("out", "build/bench")):
        parser.add_argument("--" + name, default=default)
    for name, default in (("prompt", 512), ("tokens", 128), ("threads", 2), ("rounds", 2),
                          ("extra", 0)):
        parser.add_argument("--" + name, type=int, default=default)
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(peer(args)))
        return
    rows = {"libpeft f32": ours(args, "f32"), "libpeft auto": ours(args, "auto")}
    if args.python:
        run = subprocess.run([args.python, __file__, "--peer"] + sys.argv[1:],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if run.returncode == 0:
            rows["llama.cpp"] = json.loads(run.stdout.splitlines()[-1])
        else:
            print("llama.cpp failed (%d)" % run.returncode)
    other = rows.get("llama.cpp")
    print("%-14s %16s %8s %16s %8s" % ("tokens/s", "prompt", "ratio", "decode", "ratio"))
    for name, r in rows.items():
        line = "%-14s" % name
        for part in ("prompt", "decode"):
            speed = r[part + "_per_second"]
            line += " %16.1f %8s" % (speed, "%.2f" % (speed / other[part + "_per_second"])
                                     if other else "")
        print(line)
    if other:
        print("%s: %s" % (other["peer"], other["instructions"]))
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "decode.json")
    with open(path, "w") as f:
        json.dump({"model": os.path.basename(args.model), "threads": args.threads,
                   "results": rows}, f, indent=2)
    print("All figures: %s\n" % path)


main()
