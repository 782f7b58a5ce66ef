"""The rows of `make bench`: what runs, and what its figures are held against.

A row's `run(env)` returns contenders by name, each a dict of figures; a claim computes one
number of them.  None: a side is missing.
"""
import json
import os
import statistics
from dataclasses import dataclass, field

import data
from contender import Failed, Contender, output, take_turns

BATCH, LENGTH, RANK, ALPHA = 4, 256, 16, 32
OURS, OURS16 = "libpeft", "libpeft, bfloat16"
PEER, PEER16 = "PyTorch", "PyTorch, bfloat16"
LATER = "libpeft, later epochs"
# Largest relative difference of a step's loss: of float32, and where one side is bfloat16.
AGREE, AGREE16 = 1e-3, 3e-2


@dataclass
class Claim:
    text: str
    sign: str                      # ">=" or "<="
    aim: float
    unit: str
    of: object                     # results -> number or None

    def holds(self, value):
        return value >= self.aim if self.sign == ">=" else value <= self.aim


@dataclass
class Row:
    name: str
    title: str
    run: object
    claims: list = field(default_factory=list)


# ------------------------------------------------------------------ training

def figures(one):
    """Of a contender after its turns; its first step does not count."""
    later = one.rows[1:]
    speeds = [r["tokens"] / r["seconds"] for r in later]
    return {"tokens_per_second": statistics.median(speeds), "best": max(speeds),
            "steps": len(later), "tokens": later[-1]["tokens"], "peak_bytes": one.peak,
            "first_step": one.rows[0]["since_start"],
            "losses": [r["loss"] for r in one.rows], **one.ready}


def check_losses(results, reference, bounds):
    """Marks contenders whose loss is not the reference's."""
    if reference not in results:
        return
    for name, bound in bounds.items():
        if name not in results:
            continue
        pairs = list(zip(results[name]["losses"], results[reference]["losses"]))
        worst = max(abs(a - b) / abs(b) for a, b in pairs)
        results[name]["loss_difference"] = worst
        if not worst <= bound:
            results[name]["failed"] = "losses differ by %.2g of %s" % (worst, reference)


def ours(env, model, rows, batch, steps, lr, *extra):
    return [env.peft, "bench", model, "--data", rows, "--paced", "--batch", str(batch),
            "--steps", str(steps), "--lr", str(lr), "--schedule", "constant", "--clip", "0",
            "--no-shuffle", "--threads", str(env.threads), *extra]


def peers(env, rows, batch, lr, *extra):
    return [env.python, "bench/peer.py", env.folder, "--data", rows, "--batch", str(batch),
            "--lr", str(lr), "--threads", str(env.threads), *extra]


@dataclass
class Training:
    """The same steps of all four: both float32, and both with bfloat16 where they have it."""
    ours: list
    peer: list
    batch: int = BATCH
    lr: float = 1e-3
    masked: float = 0.0
    short: bool = False
    more: dict = field(default_factory=dict)       # further contenders: options of ours
    again: bool = False                            # also one batch in epoch after epoch
    roofline: bool = False

    def rows(self, env, name, steps):
        n = self.batch * (steps + 1)
        # Packs of the shortest rows would need more of them.
        lengths = data.short_lengths(2 * n) if self.short else [LENGTH] * n
        return data.write_rows(env.path(name + ".jsonl"), env.ids, lengths, self.masked)

    def commands(self, env, rows, steps):
        mine = [x.format(adapter=env.adapter) for x in self.ours]
        theirs = [x.format(adapter=env.adapter) for x in self.peer]
        base = ours(env, env.folder, rows, self.batch, steps + 1, self.lr, *mine)
        found = {OURS: base}
        if env.half:
            found[OURS16] = base + ["--compute", "bf16"]
        more = dict(self.more)
        if self.again:
            one = data.write_rows(env.path("again.jsonl"), env.ids, [LENGTH] * self.batch)
            more[LATER] = ["--data", one]
        for name, extra in more.items():
            found[name] = base + extra
            if env.half:
                found[name + ", bfloat16"] = base + extra + ["--compute", "bf16"]
        if env.python:
            peer = peers(env, rows, self.batch, self.lr, *theirs)
            found[PEER] = peer
        if env.python and env.half:
            found[PEER16] = peer + ["--dtype", "bfloat16"]
        return found

    def run(self, env, name):
        rows = self.rows(env, name, env.steps)
        commands = self.commands(env, rows, env.steps)
        results = {n: figures(one) for n, one in take_turns(commands, env.steps).items()}
        check_losses(results, PEER, {OURS: AGREE, OURS16: AGREE16, PEER16: AGREE16})
        if self.roofline:
            results["roofline"], _ = output(
                [env.peft, "bench", env.folder, "--adapter", env.adapter, "--batch",
                 str(self.batch), "--length", str(LENGTH), "--steps", "3", "--threads",
                 str(env.threads), "--roofline", "--json"])
        return results


def speed(results, *names):
    found = [results[n]["tokens_per_second"] for n in names if n in results]
    return max(found) if found else None


def ratio(results, mine, theirs):
    a, b = speed(results, *mine), speed(results, *theirs)
    return a / b if a and b else None


def faster(aim, *mine):
    mine = mine or (OURS,)
    return Claim("tokens/s over PyTorch, float32", ">=", aim, "x",
                 lambda r: ratio(r, mine, (PEER,)))


def faster16(aim, *mine):
    mine = mine or (OURS, OURS16)
    return Claim("better of ours over better of PyTorch's", ">=", aim, "x",
                 lambda r: ratio(r, mine, (PEER, PEER16)))


LORA = Training(["--adapter", "{adapter}"], ["--adapter", "{adapter}"], roofline=True)
MASKED = Training(["--adapter", "{adapter}"], ["--adapter", "{adapter}"], masked=0.5)
FULL = Training(["--method", "full"], [], lr=1e-5)
LAST = Training(["--method", "none", "--unfreeze",
                 "model.layers.26.*,model.layers.27.*,model.layers.28.*,model.layers.29.*"],
                ["--last", "4"], lr=1e-4, again=True)
PACKS = "libpeft, packed"
SHORT = Training(["--adapter", "{adapter}", "--max-len", "256"], ["--adapter", "{adapter}"],
                 batch=8, lr=1e-4, short=True,
                 more={PACKS: ["--packing", "--batch", "1"]})


# ------------------------------------------------------------- a frozen part

def run_head(env):
    env.shell("python3", "bench/prefix.py", "--task", "head", "--minilm", env.minilm, "--reviews",
              env.reviews, "--python", env.python, "--threads", str(env.threads), "--out", env.out,
              "--precision", "both" if env.half else "f32", library=env.program("libpeft.so"))
    with open(env.path("prefix.json")) as f:
        found = json.load(f)["head"]["results"]
    names = {"f32": "%s", "bf16": "%s, bfloat16"}
    results = {names[name.split(", ")[1]] % name.split(", ")[0]: r for name, r in found.items()}
    check_losses(results, PEER, {OURS: AGREE, OURS16: AGREE16, PEER16: AGREE16})
    return results


def sooner(text, key, aim):
    def value(results):
        mine, theirs = ([r[key] for n, r in results.items() if n.startswith(side)]
                        for side in (OURS, PEER))
        return min(theirs) / min(mine) if theirs else None
    return Claim("%s, better over better of PyTorch's" % text, ">=", aim, "x", value)


def run_embed(env):
    import embed
    return embed.compare(env)


def texts_over(text, *kinds):
    def value(results):
        mine, theirs = ([results[side + kind]["texts_per_second"] for kind in kinds
                         if side + kind in results] for side in (OURS, "sentence-transformers"))
        return max(mine) / max(theirs) if theirs else None
    return Claim(text, ">=", 1.0, "x", value)


# --------------------------------------------------------- bases of fewer bits

def run_bases(env):
    rows = data.write_rows(env.path("bases.jsonl"), env.ids, [LENGTH] * BATCH * (env.steps + 1))
    kinds = {"F32": (env.folder, []), "Q4_1": (env.model, []), "Q4_K": (env.q4_k, []),
             "NF4": (env.folder, ["--quant", "nf4"])}
    commands = {}
    for name, (model, extra) in kinds.items():
        command = ours(env, model, rows, BATCH, env.steps + 1, 1e-3, "--rank", str(RANK), *extra)
        commands[name] = command
        if env.half:
            commands[name + ", bfloat16"] = command + ["--compute", "bf16"]
    return {n: figures(one) for n, one in take_turns(commands, env.steps).items()}


def of_floats(name, kind=""):
    return Claim("tokens/s on %s over F32%s" % (name, kind), ">=", 0.9, "x",
                 lambda r: ratio(r, (name + kind,), ("F32" + kind,)))


# ------------------------------------------------------------- memory and time

LENGTHS = (512, 1024, 2048, 4096)


def available():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))


def run_lengths(env):
    """A step of each after a first one, both in bfloat16 where the processor has it."""
    results, last = {}, LENGTHS[-1]
    dtype = "bfloat16" if env.half else "float32"
    for n in LENGTHS:
        rows = data.write_rows(env.path("length.jsonl"), env.ids, [n] * 2)
        mine = ours(env, env.model, rows, 1, 2, 1e-3, "--rank", str(RANK), "--max-len", str(n),
                    "--compute", "auto")
        commands = {"libpeft %d" % n: mine}
        if n == last:
            commands["libpeft %d, recompute" % n] = mine + ["--recompute", "layers"]
        # About 5 MB a token: what does not fit is left out.
        if env.python and available() > n * 5e6 + 2e9:
            commands["PyTorch %d" % n] = peers(env, rows, 1, 1e-3, "--adapter", env.adapter,
                                               "--dtype", dtype)
        for name, command in commands.items():
            results[name] = figures(take_turns({name: command}, 1)[name])
    return results


def growth(results, key):
    first, last = (results["libpeft %d" % n] for n in (LENGTHS[0], LENGTHS[-1]))
    return key(last) / key(first)


def flops_rate(figure):
    return figure["flops_per_step"] / figure["tokens"] * figure["tokens_per_second"]


def run_memory(env):
    rows = data.write_rows(env.path("memory.jsonl"), env.ids, [512] * 3)
    layers = ["--recompute", "layers"]
    mine = ours(env, env.model, rows, 1, 3, 1e-3, "--rank", str(RANK), "--max-len", "512")
    commands = {OURS: mine, OURS + ", recompute": mine + layers}
    if env.python:
        peer = peers(env, rows, 1, 1e-3, "--adapter", env.adapter)
        commands[PEER] = peer
        commands[PEER + ", checkpointing"] = peer + ["--checkpointing"]
    return {name: figures(take_turns({name: command}, 2)[name])
            for name, command in commands.items()}


def run_start(env):
    """Whole processes: from their start to the end of a step of 64 tokens."""
    rows = data.write_rows(env.path("start.jsonl"), env.ids, [64])
    commands = {OURS: (ours(env, env.model, rows, 1, 1, 1e-3, "--rank", str(RANK)), 5)}
    if env.python:
        commands[PEER] = (peers(env, rows, 1, 1e-3, "--adapter", env.adapter), 1)
    results = {}
    for name, (command, times) in commands.items():
        seconds = []
        for _ in range(times):
            one = Contender(command)
            seconds.append(one.step()["since_start"])
            one.close()
        results[name] = {"first_step": statistics.median(seconds), "all": seconds,
                         "peak_bytes": one.peak}
    return results


# -------------------------------------------------------- other than training

def run_encode(env):
    import encode
    return encode.compare(env)


def run_generate(env):
    numbers = [str(env.threads), "512", "64", "4"]
    results = {}
    for name, kind in ((OURS, "f32"), (OURS16, "bf16"))[:1 + env.half]:
        results[name], _ = output([env.program("bench_generate"), env.model, *numbers, kind])
    if env.llama:
        peer = [env.llama, "bench/llama.py", env.model, *numbers]
        try:
            results["llama.cpp"], _ = output(peer)
        except Failed:
            results["llama.cpp"], _ = output(peer + ["plain"])
    return results


def over_llama(key, text, aim):
    def value(results):
        if "llama.cpp" not in results:
            return None
        best = max(results[n][key] for n in (OURS, OURS16) if n in results)
        return best / results["llama.cpp"][key]
    return Claim(text + " over llama.cpp", ">=", aim, "x", value)


def run_library(env):
    found, _ = output([env.program("bench_allocations"), env.model,
                       env.path("allocations.jsonl")])
    stripped = env.path("libpeft.so")
    env.shell("strip", "-o", stripped, env.program("libpeft.so"))
    return {OURS: dict(found, stripped_bytes=os.path.getsize(stripped))}


def run_plan(env):
    import plan
    return plan.compare(env)


def run_limits(env):
    import limits
    return limits.compare(env)


def worst_time(results):
    return max(max(r["over"], 1 / r["over"]) for r in results.values())


def run_adapters(env):
    found, _ = output([env.program("bench_adapters"), env.model, env.path("adapter"), "100"])
    return {OURS: found}


def training(name, title, kind, *claims):
    return Row(name, title, lambda env: kind.run(env, name), list(claims))


ROWS = [
    training("lora", "LoRA r16 on all linear layers, 4 x 256, all tokens trained", LORA,
             faster(1.4), faster16(3.0),
             Claim("of BLAS's own speed over the whole step, float32", ">=", 0.75, "",
                   lambda r: r["roofline"]["share_of_blas"])),
    training("masked", "the same, half of the tokens masked", MASKED, faster(1.8), faster16(1.8)),
    Row("bases", "LoRA on bases of fewer bits, 4 x 256", run_bases,
        [of_floats("Q4_1"), of_floats("Q4_K"), of_floats("Q4_1", ", bfloat16"),
         of_floats("Q4_K", ", bfloat16")]),
    training("full", "full fine-tuning, 4 x 256", FULL, faster(1.5), faster16(1.5)),
    training("last", "the last 4 layers only, 4 x 256", LAST, faster(2.0), faster16(2.0),
             Claim("later epochs, better over better of PyTorch's", ">=", 2.0, "x",
                   lambda r: ratio(r, (LATER, LATER + ", bfloat16"), (PEER, PEER16)))),
    Row("head", "a head on MiniLM, 512 sentences, batches of 32", run_head,
        [sooner("epoch 1", "first_epoch_seconds", 1.5),
         sooner("later epochs", "later_epoch_seconds", 50)]),
    Row("embed", "512 sentences to vectors by MiniLM, batches of 32", run_embed,
        [texts_over("texts/s over sentence-transformers, float32", ""),
         texts_over("better of ours over better of theirs", "", ", bfloat16")]),
    training("packed", "short examples, mean 40 tokens, at most 256, against padded", SHORT,
             faster(3.0, OURS, PACKS), faster16(3.0, OURS, OURS16, PACKS, PACKS + ", bfloat16")),
    Row("lengths", "1 x 512 to 4096, on the Q4_1 file", run_lengths,
        [Claim("activations a token, 4096 over 512", "<=", 1.05, "x",
               lambda r: growth(r, lambda f: f["activation_bytes"] / f["tokens"])),
         Claim("flops a second, 4096 over 512", ">=", 0.85, "x",
               lambda r: growth(r, flops_rate))]),
    Row("memory", "1 x 512 on the Q4_1 file, layers recomputed", run_memory,
        [Claim("peak resident memory", "<=", 350, "MB",
               lambda r: r[OURS + ", recompute"]["peak_bytes"] / 1e6)]),
    Row("start", "process start to the end of a step of 64 tokens, Q4_1 file", run_start,
        [Claim("time", "<=", 0.6, "s", lambda r: r[OURS]["first_step"])]),
    Row("encode", "20 MB of text to ids, one thread", run_encode,
        [Claim("speed over `tokenizers`, SmolLM2", ">=", 2.0, "x",
               lambda r: r["smollm2"].get("ratio"))]),
    Row("generate", "512 tokens of prompt, 64 of answer, Q4_1 file", run_generate,
        [over_llama("prompt_tokens_per_second", "prompt", 1.0),
         over_llama("tokens_per_second", "answer", 0.8)]),
    Row("library", "the library itself", run_library,
        [Claim("stripped .so", "<=", 1.0, "MB", lambda r: r[OURS]["stripped_bytes"] / 1e6),
         Claim("allocations in a step after the first", "<=", 0, "",
               lambda r: r[OURS]["allocations_per_step"])]),
    Row("adapters", "100 adapters on one model", run_adapters),
    Row("plan", "what `peft plan` says, and what training takes", run_plan,
        [Claim("seconds said and taken, the larger over the smaller", "<=", 1.25, "x",
               worst_time),
         Claim("memory taken over said", "<=", 1.0, "x",
               lambda r: max(x["peak_bytes"] / x["predicted_peak_bytes"] for x in r.values()))]),
    Row("limits", "training under `--memory`", run_limits,
        [Claim("resident over the limit", "<=", 1.0, "x",
               lambda r: max(x["peak_bytes"] / x["limit_bytes"] for x in r.values()
                             if "limit_bytes" in x)),
         *(Claim("losses differ from those without a limit, " + kind, "<=", aim, "",
                 lambda r, kind=kind: max(x.get("loss_difference", 0) for n, x in r.items()
                                          if ("bfloat16" in n) == (kind == "bfloat16")))
           for kind, aim in (("float32", 1e-5), ("bfloat16", 3e-3))),
         Claim("seconds said and taken, the larger over the smaller", "<=", 1.25, "x",
               worst_time)]),
]
