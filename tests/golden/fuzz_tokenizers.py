#!/usr/bin/env python3
"""Random strings through libpeft's tokenizers and through Hugging Face's.

    fuzz_tokenizers.py TOKENIZE_PROGRAM [N [SEED]] [TOKENIZER.json=PATH ...]

TOKENIZE_PROGRAM is tokenize.c, linked with build/release/internal.a.  Small
tokenizers of every kind are trained here and compared on N strings each (ids
with and without special tokens, offsets in bytes, and decoding); a pair adds a
tokenizer.json and what libpeft shall read in its place, a folder or a GGUF
file.  FOLDERS are SentencePiece models, compared with what transformers makes
of them.  Needs the packages tokenizers, sentencepiece and transformers."""
import array, glob, itertools, json, os, random, struct, subprocess, sys, sysconfig, tempfile, unicodedata
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers as pre, processors, trainers)

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
TEXTS = []
for f in sorted(glob.glob(sysconfig.get_paths()["stdlib"] + "/*.py"))[:40]:
    TEXTS += open(f, encoding="utf8", errors="replace").read().split("\n")[:400]
TEXTS += ["日本語のテキスト、東京は首都です。", "Привет, мир! ёлка", "naïve café résumé", "नमस्ते दुनिया",
          "한국어 각", "مرحبا بالعالم", "Ünïcödé ﬁ Å", "😀👍🏽👨‍👩‍👧 ok", "İstanbul ẞ ſ ŉ", "12 345 ½ Ⅳ ٣٤"] * 20

VOCAB = 1500

def bpe(split, norm=None, **model):
    t = Tokenizer(models.BPE(**model))
    if norm: t.normalizer = norm
    if split: t.pre_tokenizer = split
    return t, lambda special, alphabet=None: t.train_from_iterator(TEXTS, trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, show_progress=False,
        initial_alphabet=alphabet or []))

def byte_level(split, norm=None, template=True, ignore=False):
    t, train = bpe(split, norm=norm, ignore_merges=ignore)
    train(["<|bos|>", "<|eos|>"], pre.ByteLevel.alphabet())
    t.decoder = decoders.ByteLevel()
    if template:
        t.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B:1", special_tokens=[("<|bos|>", 0)])
    t.add_tokens([AddedToken("<tool>", special=False, normalized=False),
                  AddedToken("self", single_word=True, normalized=True),
                  AddedToken("<left>", lstrip=True, normalized=False),
                  AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
                  AddedToken("<both>x", normalized=False), AddedToken("  ", normalized=False)])
    t.add_special_tokens([AddedToken("<|eot|>", rstrip=True), "<|e"])
    return t

def spm(split, norm, decoder, fallback=True, fuse=True):
    t, train = bpe(split, norm=norm, byte_fallback=fallback, unk_token="<unk>", fuse_unk=fuse)
    train(["<unk>", "<s>", "</s>"] + ([f"<0x{i:02X}>" for i in range(256)] if fallback else []))
    parts = json.loads(t.to_str())
    parts["added_tokens"] = parts["added_tokens"][:3]  # bytes are no special tokens
    t = Tokenizer.from_str(json.dumps(parts))
    t.decoder = decoder
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", 1), ("</s>", 2)])
    t.add_tokens([AddedToken("▁▁▁", normalized=False), AddedToken("self", normalized=True)])
    return t

def wordpiece(lower, accents, han=True, split=None, clean=True):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(clean, han, accents, lower)
    t.pre_tokenizer = split or pre.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(TEXTS, trainers.WordPieceTrainer(
        vocab_size=VOCAB, special_tokens=special, show_progress=False))
    t.decoder = decoders.WordPiece()
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.add_tokens([AddedToken("Don", single_word=True), AddedToken("[X]", lstrip=True)])
    return t

def roberta():
    t = byte_level(pre.ByteLevel(add_prefix_space=True), template=False)
    t.post_processor = processors.RobertaProcessing(("<|eos|>", 1), ("<|bos|>", 0))
    return t

isolated = lambda r: pre.Split(Regex(r), "isolated")
seq = lambda *a: pre.Sequence(list(a))
raw = pre.ByteLevel(add_prefix_space=False, use_regex=False)
gpt2 = pre.ByteLevel(add_prefix_space=False)
space = normalizers.Replace(" ", "▁")
llama2 = normalizers.Sequence([normalizers.Prepend("▁"), space])
undo = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                          decoders.Strip(" ", 1, 0)])

# A small character map; SPM_RULES=nmt_nfkc takes SentencePiece's own of 240 KB.
RULES = """FB01\t66 69
E9\t65
65 301\t65
2122\t54 4D
3000\t20
A0\t20
9\t20
A\t20
D\t20
200B\t
AD\t
FF21\t41
FF01\t21
2028\t20
1112 1161 11AB\tD55C
2026\t2E 2E 2E
BD\t31 2044 32
71 323\t1E5B
"""

def read_model(path):
    from sentencepiece import sentencepiece_model_pb2
    m = sentencepiece_model_pb2.ModelProto()
    m.ParseFromString(open(path, "rb").read())
    return m

def spm_train(folder, model_type, **options):
    """A SentencePiece model in folder/m.model."""
    import sentencepiece
    with open(folder + "/corpus", "w", encoding="utf8") as f:
        f.write("\n".join(t for t in TEXTS if t.strip() and "\0" not in t))
    rules = os.environ.get("SPM_RULES")
    if rules: options.setdefault("normalization_rule_name", rules)
    elif "normalization_rule_name" not in options:
        open(folder + "/rules.tsv", "w").write(RULES)
        options["normalization_rule_tsv"] = folder + "/rules.tsv"
    sentencepiece.SentencePieceTrainer.train(
        input=folder + "/corpus", model_prefix=folder + "/m", minloglevel=2,
        vocab_size=options.pop("vocab_size", VOCAB),
        model_type=model_type, character_coverage=0.99, hard_vocab_limit=False, **options)
    for name in ("corpus", "rules.tsv", "m.vocab"):
        if os.path.exists(f"{folder}/{name}"): os.remove(f"{folder}/{name}")
    m = read_model(folder + "/m.model")
    for part, names in ((m.trainer_spec, ("input", "model_prefix")),
                        (m.normalizer_spec, ("normalization_rule_tsv",))):
        for name in names: part.ClearField(name)  # paths
    open(folder + "/m.model", "wb").write(m.SerializeToString())

def spm_proto(model_type="unigram", **options):
    with tempfile.TemporaryDirectory() as d:
        spm_train(d, model_type, **options)
        return read_model(d + "/m.model")

def unigram(norm, split, decoder, post=None, fallback=False, front=(), back=(), skip=0, extra=(),
            **options):
    m = spm_proto(byte_fallback=fallback, **options)
    vocab = list(front) + [(p.piece, p.score) for p in m.pieces][skip:] + list(back)
    unk = [s for s, _ in vocab].index("<unk>")
    t = Tokenizer(models.Unigram(vocab, unk, fallback))
    charsmap = m.normalizer_spec.precompiled_charsmap
    steps = ([normalizers.Precompiled(charsmap)] if charsmap else []) + norm
    if steps: t.normalizer = normalizers.Sequence(steps)
    if split: t.pre_tokenizer = split
    t.decoder = decoder
    t.add_special_tokens(["<s>", "</s>", "<unk>"] + list(extra))
    t.add_tokens([AddedToken("self", normalized=True), AddedToken("<left>", lstrip=True),
                  AddedToken("<tool>", normalized=False)])
    if post:
        t.post_processor = processors.TemplateProcessing(
            single=post[0], pair=post[1],
            special_tokens=[(s, t.token_to_id(s)) for s in ("<s>", "</s>")])
    return t

def plain(model, norm=None, split=None, decoder=None, train=None):
    t = Tokenizer(model)
    if norm: t.normalizer = norm
    if split: t.pre_tokenizer = split
    if train: t.train_from_iterator(TEXTS, train)
    if decoder: t.decoder = decoder
    return t

def old_gpt():
    t, train = bpe(pre.BertPreTokenizer(), norm=normalizers.BertNormalizer(lowercase=True),
                   unk_token="<unk>", end_of_word_suffix="</w>")
    t.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=["<unk>"],
                          show_progress=False, end_of_word_suffix="</w>"))
    t.decoder = decoders.BPEDecoder("</w>")
    return t

def words(split, norm=None, decoder=None):
    return plain(models.WordLevel({}, "<unk>"), norm, split, decoder, trainers.WordLevelTrainer(
        vocab_size=VOCAB, special_tokens=["<unk>", "<pad>", "|"], show_progress=False))

def folder(d, name, config, model_type, **options):
    """A folder with a SentencePiece model, and what transformers reads from it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoTokenizer
    spm_train(d, model_type, **options)
    os.rename(d + "/m.model", d + "/" + name)
    json.dump(config, open(d + "/tokenizer_config.json", "w"))
    return AutoTokenizer.from_pretrained(d).backend_tokenizer

words_split = pre.Sequence([pre.WhitespaceSplit(), pre.Metaspace()])
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
KINDS = {
    "t5": lambda: unigram([], words_split, decoders.Metaspace(), ("$A </s>", "$A </s> $B </s>"),
                          back=[(f"<extra_id_{i}>", 0.0) for i in range(9, -1, -1)],
                          extra=[f"<extra_id_{i}>" for i in range(10)]),
    "t5-spaces": lambda: unigram(
        [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")],
        pre.Metaspace(), decoders.Metaspace(), ("$A </s>", "$A </s> $B </s>")),
    "xlmr": lambda: unigram([], words_split, decoders.Metaspace(),
                            ("<s> $A </s>", "<s> $A </s> </s> $B </s>"),
                            front=[("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)],
                            back=[("<mask>", 0.0)], skip=3, extra=["<mask>"]),
    "unigram-bytes": lambda: unigram(
        [normalizers.Prepend("▁"), space], None, undo, fallback=True,
        vocab_size=VOCAB * 4 // 5, normalization_rule_name="identity", allow_whitespace_only_pieces=True),
    "unigram-unk": lambda: unigram([normalizers.Nmt(), normalizers.Lowercase()],
                                   pre.Metaspace(split=False), decoders.Metaspace(),
                                   normalization_rule_name="identity"),
    "old-gpt": old_gpt,
    "words": lambda: words(pre.Whitespace(), normalizers.Nmt()),
    "ctc": lambda: words(pre.CharDelimiterSplit("e"), None, decoders.CTC("<pad>", "|", True)),
    "chars": lambda: words(pre.Sequence([pre.Punctuation("removed"), pre.FixedLength(3)]),
                           normalizers.Sequence([normalizers.Replace(Regex("[aeiou]+x?"), "-"),
                                                 normalizers.Replace(Regex(" {2,}"), "+")]),
                           decoders.Sequence([decoders.Replace(Regex(r"\d+"), "#"), decoders.Fuse()])),
    "norm-bytes": lambda: byte_level(None, norm=normalizers.ByteLevel()),
    "o200k": lambda: byte_level(seq(isolated(O200K), raw)),
    "deepseek": lambda: byte_level(seq(isolated(r"\p{N}{1,3}"), isolated("[一-龥぀-ゟ゠-ヿ]+"),
                                       isolated(DEEPSEEK), raw)),
    "regex": lambda: byte_level(seq(
        pre.Split(Regex(r"\b\w+\b|\h{2}|[^\S\n]+$"), "merged_with_next"),
        pre.Split(Regex(r"\d*"), "merged_with_previous"),
        pre.Split(Regex(r"(?i:é|ж)|\p{Han}|\u0430|^."), "contiguous", invert=True), raw)),
    "gpt2": lambda: byte_level(gpt2),
    "gpt2-prefix": lambda: byte_level(pre.ByteLevel(add_prefix_space=True)),
    "smollm": lambda: byte_level(seq(pre.Digits(individual_digits=True), gpt2)),
    "llama3": lambda: byte_level(seq(isolated(LLAMA3), raw), ignore=True),
    "cl100k": lambda: byte_level(seq(pre.Split(Regex(CL100K), "removed", invert=True), raw)),
    "qwen2": lambda: byte_level(seq(isolated(QWEN2), raw), norm=normalizers.NFC()),
    "nfkc": lambda: byte_level(gpt2, norm=normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])),
    "nfkd": lambda: byte_level(gpt2, norm=normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents()])),
    "bloom": lambda: byte_level(seq(isolated(BLOOM), raw)),
    "falcon": lambda: byte_level(seq(pre.Punctuation("contiguous"), gpt2, pre.Digits(False),
                                     isolated("[0-9][0-9][0-9]"))),
    "roberta": roberta,
    "llama2": lambda: spm(None, llama2, undo),
    "metaspace": lambda: spm(pre.Metaspace(prepend_scheme="always"), None,
                             decoders.Metaspace(prepend_scheme="always")),
    "metaspace-first": lambda: spm(pre.Metaspace(prepend_scheme="first", split=False), None, undo),
    "gemma": lambda: spm(pre.Split(" ", "merged_with_previous"), space,
                         decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(),
                                            decoders.Fuse()])),
    "spm-unk": lambda: spm(None, llama2, undo, fallback=False),
    "spm-unk-each": lambda: spm(pre.WhitespaceSplit(), None, undo, fallback=False, fuse=False),
    "bert": lambda: wordpiece(True, None),
    "bert-cased": lambda: wordpiece(False, None),
    "bert-accents": lambda: wordpiece(True, False, han=False, clean=False),
    "bert-words": lambda: wordpiece(False, True, split=pre.Whitespace()),
}
FOLDERS = {
    "spm-t5": lambda d: folder(d, "spiece.model", {"tokenizer_class": "T5Tokenizer"}, "unigram",
                               unk_id=2, pad_id=0, eos_id=1, bos_id=-1),
    "spm-xlmr": lambda d: folder(d, "sentencepiece.bpe.model",
                                 {"tokenizer_class": "XLMRobertaTokenizer"}, "unigram"),
    "spm-camembert": lambda d: folder(d, "sentencepiece.bpe.model",
                                      {"tokenizer_class": "CamembertTokenizer"}, "unigram"),
    "spm-albert": lambda d: folder(d, "spiece.model", {"tokenizer_class": "AlbertTokenizer"},
                                   "unigram", pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
                                   control_symbols=["[CLS]", "[SEP]", "[MASK]"]),
    "spm-llama": lambda d: folder(
        d, "tokenizer.model", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, "bpe",
        byte_fallback=True, normalization_rule_name="identity", split_digits=True,
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
    "spm-gemma": lambda d: folder(
        d, "tokenizer.model", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True}, "bpe",
        byte_fallback=True, normalization_rule_name="identity", split_digits=True,
        remove_extra_whitespaces=False, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2,
        unk_id=3, user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>", "   ", "self"]),
}
WORDS = ["the", " quick", "ing", " ", "  ", "   ", "\n", "\t", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2028", "\x85",
         "\x1c", "é", "e\u0301", "q\u0323\u0307\u0323", "日本", "ラ", "한", "\u1112\u1161\u11ab", "ж", "ß", "ﬁ", "İ", "ſ", "'ſ", "'S",
         "'ll", "'LL", "'re", "'d", "'", "😀", "👍🏽", "\u200d", "7", "42", "1234567", "½", "Ⅳ", "٣", "²", ".", ",", "...", "!?",
         "\"", "(", ")", "|", "—", "_", "/", "\\", "A", "Zz", "ا", "क्", "self", "selfish", "Don", "don't", "def f(x):", "##", "▁",
         "▁▁▁", "#", "==", "<|eot|>", "<|e", "<|eo", "<tool>", "<left>", "<both>", "<both>x", "<both", "[X]", "<|bos|>",
         "<|im_end|>", "<|im_start|>", "<s>", "</s>", "<unk>", "<0x41>", "[CLS]", "[MASK]", "[UNK]", "\x00", "\ufffd", "\ue000", "\ue001",
         "\u0378", "\U0010ffff", "\u00ad", "a" * 101, "ab" * 40, " " * 20]
BERT = normalizers.BertNormalizer(True, False, True, False)

def newer(c):
    """What is younger than the tables of `tokenizers` (Unicode 8) or changed since: marks and
    punctuation are letters to it, and there are no decompositions.  utf8proc knows them."""
    s, kind = chr(c), unicodedata.category(chr(c))
    return (normalizers.NFKC().normalize_str(s) != unicodedata.normalize("NFKC", s) or
            (normalizers.StripAccents().normalize_str(s) == "") != (kind[0] == "M") or
            (BERT.normalize_str(s) == "") != (kind in ("Mn", "Cc", "Cf", "Co") and c not in (9, 10, 13)) or
            (len(pre.Punctuation().pre_tokenize_str("a" + s)) > 1) !=
            (kind[0] == "P" or c < 128 and kind[0] == "S"))

ASSIGNED = [c for c in range(0x110000)
            if unicodedata.category(chr(c)) not in ("Cn", "Cs") and not newer(c)]

def random_text(r):
    kind = r.random()
    if kind < 0.6: return "".join(r.choice(WORDS) for _ in range(r.randrange(0, 12)))
    if kind < 0.8: return "".join(r.choice(WORDS) if r.random() < .5 else chr(r.choice(ASSIGNED[:30000]))
                                  for _ in range(r.randrange(1, 10)))
    if kind < 0.9: return "".join(chr(r.choice(ASSIGNED)) for _ in range(r.randrange(1, 10)))
    t = r.choice(TEXTS)
    return t[r.randrange(0, len(t) + 1):]

def ours(program, path, texts):
    """For each text the records of tokenize.c, as bytes."""
    data = b"".join(struct.pack("<i", len(b)) + b for b in (t.encode() for t in texts))
    p = subprocess.run([program, path], input=data, stdout=subprocess.PIPE)
    out, at = p.stdout, 0
    for _ in texts:
        row = []
        for size in (4, 4, 4, 4, 1):
            if at + 4 > len(out): sys.exit(f"{path}: {program} ended early ({p.returncode})")
            n, = struct.unpack_from("<i", out, at)
            row.append(out[at + 4:at + 4 + n * size])
            at += 4 + n * size
        yield row

def byte_places(text):
    """Where each character begins, in bytes."""
    return range(len(text) + 1) if text.isascii() else [
        0, *itertools.accumulate(len(c.encode()) for c in text)]

def compare(program, name, t, path, texts, places):
    """The number of texts that differ."""
    bad = 0
    encoded = t.encode_batch(texts)
    plain = [[i for i, special in zip(e.ids, e.special_tokens_mask) if not special] for e in encoded]
    back = t.decode_batch(plain, skip_special_tokens=False)
    ints = lambda v: array.array("i", v).tobytes()
    for s, at, e, b, c, got in zip(texts, places, encoded, plain, back, ours(program, path, texts)):
        spans = e.offsets
        if got == [ints(e.ids), ints([at[o[0]] for o in spans]), ints([at[o[1]] for o in spans]),
                   ints(b), c.encode()]: continue
        bad += 1
        if bad <= 3:
            got = [list(array.array("i", x)) for x in got[:4]] + [got[4].decode()]
            print(f"{name}: {s!r} {[hex(ord(c)) for c in s]}\n  want "
                  f"{[e.ids, [(at[o[0]], at[o[1]]) for o in spans], b, c]}\n  got  {got}")
    return bad

def main():
    program, rest, pairs = sys.argv[1], [a for a in sys.argv[2:] if "=" not in a], sys.argv[2:]
    n, seed = int(rest[0]) if rest else 20000, int(rest[1]) if len(rest) > 1 else 1
    only = os.environ.get("KINDS", "").split()
    r, done = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as d:
        rows = []
        for name, make in KINDS.items():
            if only and name not in only: continue
            t = make()
            os.mkdir(f"{d}/{name}")
            t.save(f"{d}/{name}/tokenizer.json")
            rows.append((name, t, f"{d}/{name}"))
        for name, make in FOLDERS.items():
            if only and name not in only: continue
            os.mkdir(f"{d}/{name}")
            rows.append((name, make(f"{d}/{name}"), f"{d}/{name}"))
        for reference, path in (p.split("=") for p in pairs if "=" in p):
            rows.append((path, Tokenizer.from_file(reference), path))
        bad = dict.fromkeys((name for name, _, _ in rows), 0)
        for _, t, _ in rows: t.no_padding(); t.no_truncation()
        while done < n:
            texts = [random_text(r) for _ in range(min(10000, n - done))]
            places = [byte_places(s) for s in texts]
            for name, t, path in rows: bad[name] += compare(program, name, t, path, texts, places)
            done += len(texts)
            if done % 100000 == 0: print(f"{done} strings, {sum(bad.values())} differ", flush=True)
    for name, k in bad.items(): print(f"{name}: {done} strings, {k} differ")
    sys.exit(any(bad.values()))

if __name__ == "__main__": main()
