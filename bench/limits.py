"""Whether `--memory` is held: trainings under limits from generous to the smallest one that a
refusal names.  Of each the most that the kernel counted as resident in the whole process,
saving included, seconds said and taken, and how far losses are from those without a limit.

    BENCH_ONLY=limits make bench     BENCH_ONLY=limits/packs: cases of this name
"""
import re

import plan
from contender import Failed

MEGA = 1000000
LORA = ["--method", "lora", "--batch", "4"]
WIDE = (2000, 900, 600, 400, 300)
# A case of plan.py, and its limits in MB; without them shares of what it takes unlimited.
CASES = {
    "LoRA on Q4_1, 4 x 256": (("model", "even", LORA + ["--compute", "f32"], 2), WIDE),
    "the same, bfloat16": (("model", "even", LORA + ["--compute", "bf16"], 2), WIDE),
    "LoRA on F32, chats": (("folder", "mixed", LORA, 2), ()),
    "LoRA on Q4_1, packs of 256": (("model", "mixed", [
        "--method", "lora", "--packing", "--max-len", "256", "--batch", "2"], 2), ()),
    "full, a model of 538 MB saved": (("folder", "brief", ["--method", "full", "--lr", "1e-5"],
                                       2), ()),
    "last 2 layers, outputs kept": (("folder", "brief", [
        "--method", "last", "--epochs", "2", "--lr", "1e-4"], 0), ()),
    "full on MiniLM": (("minilm", "reviews", ["--method", "full", "--batch", "16"], 4), ()),
    "LoRA on MiniLM, evaluated": (("minilm", "reviews", [
        "--method", "lora", "--batch", "16", "--eval", "0.2"], 4), ()),
    "head on MiniLM, 2 epochs": (("minilm", "reviews", ["--method", "head", "--batch", "32",
                                                        "--epochs", "2"], 0), ()),
    "pairs on MiniLM": (("minilm", "pairs", ["--method", "lora", "--batch", "8"], 4), ()),
    "T5 of 4 + 4 layers, full": (("t5", "sources", ["--method", "full", "--batch", "8"], 4), ()),
    "ViT of 4 layers, LoRA": (("vit", "pictures", ["--method", "lora", "--batch", "16"], 4), ()),
    "ViT of 4 layers, head": (("vit", "pictures", ["--method", "head", "--batch", "16",
                                                   "--epochs", "2"], 0), ()),
}


def least_of(env, places, case, limit):
    """What a refusal of this limit names as the smallest that works, in MB; 0 = it is taken."""
    try:
        plan.lines([env.peft, "plan", *plan.words(env, places, case), "--memory", "%dM" % limit])
    except Failed as e:
        found = re.search(r"smallest that works is (\d+)M", str(e))
        if found:
            return int(found.group(1))
        raise
    return 0


def compare(env):
    places, results = plan.prepare(env), {}
    for name, (case, limits) in CASES.items():
        if not env.wants(name):
            continue
        free = results[name] = plan.measure(env, places, case, 1)
        plan.tell(name, free)
        least = least_of(env, places, case, 1)
        most = max(free["peak_bytes"] / MEGA, least)
        limits = limits or [int(least + (most - least) * share) for share in (1, 0.6, 0.3)]
        for limit in [n for n in limits if n > least] + [least]:
            key = "%s, %d MB%s" % (name, limit, ", the least" * (limit == least))
            r = results[key] = plan.measure(env, places, case, 1, "--memory", "%dM" % limit)
            r["limit_bytes"] = limit * MEGA
            r["loss_difference"] = max(abs(a - b) / abs(b)
                                       for a, b in zip(r["losses"], free["losses"]))
            plan.tell(key, r)
            if r["peak_bytes"] > r["limit_bytes"]:
                r["failed"] = "%.1f MB were resident" % (r["peak_bytes"] / MEGA)
        if not least_of(env, places, case, least - 5):
            results[key]["failed"] = "%d MB were accepted too" % (least - 5)
    return results
