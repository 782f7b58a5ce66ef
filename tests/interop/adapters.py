#!/usr/bin/env python3
"""Every adapter method both ways, against PEFT: what libpeft trains PEFT loads, what PEFT
makes libpeft loads, trains on and writes back; and each merged.  The figures are the largest
differences of logits, and for training the largest relative one of ten losses.

    python tests/interop/adapters.py [--model MODEL.gguf] [NAME ...]

Without names all rows run, on random tiny models of tests/golden; with --model the methods
(not their variants) also on that one.
"""
import argparse
import tempfile

from common import *
import peft
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

GOLDEN = os.path.join(ROOT, "tests", "golden")
LIMIT = 1e-4
LR = 2e-3
ATTENTION = ["q_proj", "v_proj"]
TEXT = """The capital of France is Paris, which lies on the river Seine. Water boils at a hundred degrees
Celsius, and less on a mountain. She opened the letter, read it twice and put it away without a word; what
it said could wait until the evening. A list in Python is written with brackets, and its first element
has the number zero. In the year 1969 two men walked on the moon for the first time."""
EXPERTS = "mlp.experts.gate_up_proj,mlp.experts.down_proj"
LORA = peft.LoraConfig


class Row:
    """ours: what add_adapter gets; theirs: PEFT's config class and its members; either None.
    merges 0: neither package can.  needs: the library's method, where it is not the row's."""

    def __init__(self, ours=None, theirs=None, bases=("llama",), merges=1, stir=0.1, needs=None):
        self.ours, self.theirs, self.bases = ours, theirs, bases
        self.merges, self.stir, self.needs = merges, stir, needs


def lora(bases=("llama",), merges=1, needs=None, **options):
    """A variant of LoRA that PEFT's config says."""
    options = dict(dict(target_modules=ATTENTION), **options)
    return Row(None, (LORA, dict(dict(r=4, lora_alpha=8), **options)), bases, merges, needs=needs)


def ours(bases=("llama",), merges=1, **options):
    """One that add_adapter says."""
    return Row(dict(dict(rank=4, rslora=False), **options), None, bases, merges)


ALL = ("llama", "bert", "gpt2")             # linear layers, with a head, and Conv1D
LINEAR = ("llama", "bert", "starcoder2")
TARGETS = {"starcoder2": ["q_proj", "c_proj"]}      # where PEFT has no default
# The methods of peft_list("methods"), each with PEFT's class of the same.
METHODS = {
    "lora": Row({}, (LORA, dict(r=4, lora_alpha=8)), ALL),
    "dora": Row({}, (LORA, dict(r=4, lora_alpha=8, use_dora=True)), ALL),
    "ia3": Row({}, (peft.IA3Config, {}), ALL),
    "ln": Row({}, (peft.LNTuningConfig, {}), ("llama", "gpt2")),
    "vera": Row({}, (peft.VeraConfig, dict(r=8, d_initial=0.3, target_modules=["q_proj", "o_proj"])),
                ("llama",)),
    "loha": Row({}, (peft.LoHaConfig, dict(r=4, alpha=8)), LINEAR),
    "lokr": Row({}, (peft.LoKrConfig, dict(r=2, alpha=4)), LINEAR),
    "oft": Row({}, (peft.OFTConfig, dict(r=0, oft_block_size=4)), LINEAR, stir=0.02),
    "adalora": Row({}, (peft.AdaLoraConfig, dict(init_r=6, target_r=4, tinit=1, tfinal=1,
                                                 total_step=30)), ("llama", "bert")),
    "prompt": Row({}, (peft.PromptTuningConfig, dict(num_virtual_tokens=5)), merges=0),
    "prefix": Row({}, (peft.PrefixTuningConfig, dict(num_virtual_tokens=5)), merges=0),
    "ptuning": Row({}, (peft.PromptEncoderConfig, dict(num_virtual_tokens=5,
                                                       encoder_hidden_size=12)), merges=0),
    "tokens": Row(dict(trainable_tokens="3,9"), (peft.TrainableTokensConfig,
                                              dict(token_indices=[3, 9]))),
}
VARIANTS = {
    "rslora": Row(dict(rank=4), (LORA, dict(r=4, lora_alpha=8, use_rslora=True))),
    "gaussian": ours(init="gaussian"),
    "pissa": ours(init="pissa"),
    "olora": ours(init="olora"),
    "eva": ours(init="eva"),
    "ptuning by LSTM": Row(dict(method="ptuning", settings=dict(
        num_virtual_tokens=5, encoder_hidden_size=12, encoder_reparameterization_type="LSTM")),
        (peft.PromptEncoderConfig, dict(num_virtual_tokens=5, encoder_hidden_size=12,
                                        encoder_reparameterization_type="LSTM")), merges=0),
    "lora_bias": lora(lora_bias=True, merges=0),
    "lora_bias, biases": lora(("starcoder2",), lora_bias=True),
    "regular expression": lora(target_modules=r".*layers\.1\..*(q|k)_proj"),
    "one layer": lora(layers_to_transform=[1]),
    "rank pattern": lora(rank_pattern={"q_proj": 2},
                         alpha_pattern={"layers.1.self_attn.v_proj": 3}),
    "rslora, rank pattern": lora(use_rslora=True, rank_pattern={"q_proj": 2}),
    "lm_head": lora(target_modules=ATTENTION + ["lm_head"]),
    "embedding": lora(target_modules=ATTENTION + ["embed_tokens"]),
    "saved lm_head": lora(modules_to_save=["lm_head"]),
    "saved head, embedding": lora(modules_to_save=["lm_head", "embed_tokens"]),
    "saved norm": lora(modules_to_save=["norm"]),
    "tied, saved": lora(("llama_tied_rope3",), modules_to_save=["embed_tokens"],
                        ensure_weight_tying=True),
    "token rows": lora(trainable_token_indices=[3, 9], needs="tokens"),
    "classes": lora(("llama_cls", "bert", "roberta"), target_modules="all-linear"),
    "lokr of two products": Row(dict(method="lokr", settings=dict(
        r=1, decompose_both=True, decompose_factor=4)), (peft.LoKrConfig, dict(
            r=1, alpha=2, decompose_both=True, decompose_factor=4))),
    "ln of an encoder": Row(dict(method="ln"), (peft.LNTuningConfig, dict(
        target_modules=["LayerNorm"])), ("bert",)),
    "experts": ours(("mixtral", "qwen3_moe"), targets="q_proj", target_parameters=EXPERTS),
    "only experts": ours(("mixtral", "qwen3_moe"), targets="-", target_parameters=EXPERTS),
    "gate and up": ours(("mixtral", "qwen3_moe"), targets="v_proj",
                        target_parameters="mlp.experts.gate_up_proj"),
    "experts, router": ours(("mixtral", "qwen3_moe"), targets="q_proj",
                            target_parameters=EXPERTS, modules_to_save="gate"),
    "experts as modules": ours(("mixtral", "qwen3_moe"),
                               targets="q_proj,w1,w2,w3,gate_proj,up_proj,down_proj"),
}
COLUMNS = "ours in PEFT", "PEFT's in ours", "merged", "losses"


class Base:
    """A folder, its model in transformers, a prompt and rows to train on."""

    def __init__(self, folder, work):
        self.folder, self.rows = folder, os.path.join(work, "rows.jsonl")
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f)
        kind, self.kind = config["architectures"][0], config["model_type"]
        self.classes = kind.endswith("SequenceClassification")
        self.auto = AutoModelForSequenceClassification if self.classes else AutoModelForCausalLM
        self.task = "SEQ_CLS" if self.classes else "CAUSAL_LM"
        g = torch.Generator().manual_seed(3)
        ids = torch.randint(5, 60, (6, 14), generator=g)
        small = config.get("hidden_size", config.get("n_embd", 0)) < 256
        if not small:
            with libpeft.Model(folder) as model:
                ids = torch.tensor(model.tokenize(TEXT)[:84]).view(6, 14)
        self.ids = ids[0].tolist()
        labels = torch.arange(6) % 2 if self.classes else ids.clone()
        if not self.classes:
            labels[:, 0] = -100             # which PEFT trains after virtual tokens
        self.width = config.get("num_labels", len(config.get("id2label", [0, 1]))) if \
            self.classes else config["vocab_size"] * len(self.ids)
        self.steps, self.lr, self.exact = (10, LR, False) if small else (2, LR / 10, True)
        self.batches = [dict(input_ids=ids[i:i + 3], attention_mask=torch.ones(3, 14).long(),
                             labels=labels[i:i + 3]) for i in (0, 3)]

    def hf(self):
        return self.auto.from_pretrained(self.folder, dtype=torch.float32,
                                         attn_implementation="eager")

    def ours(self):
        model = libpeft.Model(self.folder)
        write_rows(self.rows, self.batches)
        return model

    def answer(self, model):
        """Logits of the prompt, ours or PEFT's (which has some for virtual tokens too)."""
        if isinstance(model, libpeft.Model):
            return logits(model, self.ids).reshape(-1)
        # Two float32 runs of transformers differ by 6e-5 where logits are large.
        model = model.double() if self.exact else model
        return torch_logits(model, self.ids).reshape(-1)[-self.width:]


def both_merged(base, row, model, theirs, want):
    """Merged in either package; None where neither can."""
    if not row.merges:
        try:
            model.merge()
        except libpeft.Unsupported:
            return None
        return math.inf
    model.merge()
    found = max_diff(base.answer(model), want)
    return max(found, max_diff(base.answer(theirs.merge_and_unload()), want))


def ours_there(base, row, method, work):
    options = dict(dict(method=method, seed=5), **row.ours)
    if options["method"] in ("lora", "dora", "loha", "lokr", "adalora") and "settings" not in options:
        options.setdefault("rank", 4)
    with base.ours() as model:
        data = options.pop("init") if options.get("init") == "eva" else None
        model.add_adapter("default", **options)
        if data:
            model.init_adapter_eva(model.dataset(base.rows), batch=6)
        before = base.answer(model)
        our_train(model, model.dataset(base.rows), 10 * base.lr, 6, 3)
        want = base.answer(model)
        if max_diff(before, want) < 1e-3:
            raise ValueError("training changed nothing")
        folder = os.path.join(work, "ours")
        model.save_adapter(folder)
        theirs = peft.PeftModel.from_pretrained(base.hf(), folder)
        return max_diff(base.answer(theirs), want), both_merged(base, row, model, theirs, want)


def theirs_here(base, row, work):
    cls, options = row.theirs
    options = dict(dict(task_type=base.task, target_modules=TARGETS.get(base.kind)), **options)
    if options["target_modules"] is None:
        del options["target_modules"]
    torch.manual_seed(5)
    model = peft.get_peft_model(base.hf(), cls(**options))
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.data += row.stir * torch.randn(p.shape)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    folder = os.path.join(work, "theirs")
    model.save_pretrained(folder)
    want = base.answer(model)
    with base.ours() as mine:
        mine.load_adapter(folder)
        found = max_diff(base.answer(mine), want)
        with base.ours() as other:
            other.load_adapter(folder)
            merged = both_merged(base, row, other, peft.PeftModel.from_pretrained(
                base.hf(), folder), want)
        # PEFT moves AdaLoRA's ranks and p-tuning's encoder has no place in files.
        same = cls not in (peft.AdaLoraConfig, peft.PromptEncoderConfig)
        losses = None
        got = our_train(mine, mine.dataset(base.rows), base.lr, base.steps, 3)
        if same:
            theirs = torch_train(model, base.batches, base.lr, base.steps, trained.__contains__)
            losses = max(worst(got[0], theirs[0]), worst(got[1], theirs[1]) / 10)
        again = os.path.join(work, "again")
        mine.save_adapter(again)
        there = peft.PeftModel.from_pretrained(base.hf(), again)
        return found, max_diff(base.answer(there), base.answer(mine)), merged, losses


def one(name, row, base, method):
    with tempfile.TemporaryDirectory() as work:
        a = ours_there(base, row, method, work) if row.ours is not None else (None, None)
        b = theirs_here(base, row, work) if row.theirs else (None,) * 4
    most = lambda *x: max((v for v in x if v is not None), default=None)     # noqa: E731
    return most(a[0], b[1]), b[0], most(a[1], b[2]), b[3]


def run(name, row, title, base, method):
    try:
        figures = one(name, row, base, method)
        reason = ""
    except Exception as error:                                   # a row that fails is a figure
        figures, reason = (math.inf,) * 4, "%s: %s" % (type(error).__name__, error)
    good = all(f is None or f <= LIMIT for f in figures)
    print("%-4s %-24s %-18s %s %s" % ("ok" if good else "FAIL", name, title, " ".join(
        "%14s" % ("-" if f is None else "%.1e" % f) for f in figures), reason), flush=True)
    if not good:
        FAILED.append("%s on %s" % (name, title))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", help="a GGUF file or folder, for the methods")
    parser.add_argument("--model-only", action="store_true", help="without the tiny ones")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    there = [r.name for r in libpeft.tables("methods")]
    print("%-29s %-18s %s   (limit %g)" % ("", "base", " ".join("%14s" % c for c in COLUMNS),
                                           LIMIT))
    with tempfile.TemporaryDirectory() as work:
        for name, row in list(METHODS.items()) + list(VARIANTS.items()):
            if args.model_only or (args.names and name not in args.names):
                continue
            method = name if name in METHODS else "lora"
            if (row.needs or method) not in there:
                print("skip %-24s the library has no method %s" % (name, row.needs or method))
                continue
            for base in row.bases:
                folder = os.path.join(GOLDEN, "peft/base_llama" if base == "llama" else
                                      "tiny/" + base)
                run(name, row, base, Base(folder, work), method)
        for name in there:
            if name not in METHODS:
                check_true(name, False, "has no row in METHODS")
        if args.model:
            folder = os.path.join(work, "model")
            with libpeft.Model(args.model) as model:
                model.save(folder, dtype="f32")
            for name in there:
                if not args.names or name in args.names:
                    run(name, METHODS[name], os.path.basename(args.model)[:18],
                        Base(folder, work), name)
    finish()


main()
