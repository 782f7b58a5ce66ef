#!/usr/bin/env python3
"""Makes what lies in tokenizers/: ids by Hugging Face's `tokenizers`.

    make_tok.py SMOLLM2.gguf MINILM_FOLDER GOLDEN_FOLDER
    make_tok.py kinds NAME...

smollm2/   tokenizer.json from the GGUF file's vocabulary and merges
minilm/    vocab.txt of the folder
*.jsonl    500 texts each, pairs, and chats from GOLDEN_FOLDER; checked again
*.spans    a line for each text (and pair): what every id stands for, in bytes,
           as `length`, with `@begin ` before it where that is not the last end
kinds/     small tokenizers of every kind (fuzz_tokenizers.py) with 60 texts
kinds.txt  500 more texts as JSON strings; kinds/*/hashes: for each of them the
           FNV-1a hash of ids, begins and ends, with special tokens, as int32
Texts with NUL are left out of the last three.
Needs the packages tokenizers, gguf, sentencepiece and transformers."""
import itertools, json, os, random, shutil, struct, sys
from gguf import GGUFReader
from tokenizers import Tokenizer
import fuzz_tokenizers as fuzz

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers")

def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w", encoding="utf8").write(text)

text = lambda j: json.dumps(j, ensure_ascii=False, separators=(",", ":"))

def models(gguf, minilm, golden):
    fields = GGUFReader(gguf).fields
    get = lambda key: fields["tokenizer." + key].contents()
    tokens, types, merges = get("ggml.tokens"), get("ggml.token_type"), get("ggml.merges")
    special = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False,
                    special=True) for i, t in enumerate(tokens) if types[i] == 3]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    tok = dict(version="1.0", truncation=None, padding=None, added_tokens=special, normalizer=None,
               pre_tokenizer=dict(type="Sequence", pretokenizers=[
                   dict(type="Digits", individual_digits=True), level]),
               post_processor=None, decoder=level,
               model=dict(type="BPE", dropout=None, unk_token="<|endoftext|>",
                          continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
                          byte_fallback=False, vocab={t: i for i, t in enumerate(tokens)},
                          merges=merges))
    write(out + "/smollm2/tokenizer.json", text(tok))
    write(out + "/smollm2/tokenizer_config.json", json.dumps(dict(
        bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>",
        pad_token="<|im_end|>", add_bos_token=False, tokenizer_class="GPT2Tokenizer",
        chat_template=get("chat_template")), indent=1))
    os.makedirs(out + "/minilm", exist_ok=True)
    shutil.copy(minilm + "/vocab.txt", out + "/minilm/vocab.txt")
    write(out + "/minilm/tokenizer_config.json", json.dumps(dict(do_lower_case=True)))

    for name, path in (("smollm2", out + "/smollm2/tokenizer.json"), ("minilm", minilm + "/tokenizer.json")):
        t = Tokenizer.from_file(path)
        t.no_padding(); t.no_truncation()
        shutil.copy(f"{golden}/{name}.jsonl", out)
        for line in open(f"{out}/{name}.jsonl"):
            row = json.loads(line)
            ids, plain = t.encode(row["text"]).ids, t.encode(row["text"], add_special_tokens=False).ids
            assert (ids, plain) == (row["ids"], row["ids_plain"])
            assert t.decode(plain, skip_special_tokens=False) == row["decoded"]
            assert t.decode(ids, skip_special_tokens=True) == row["decoded_skip"]
    for name in ("minilm_pairs", "smollm2_chat"): shutil.copy(f"{golden}/{name}.jsonl", out)

def kind_texts(name, t):
    r, rows = random.Random(name), []
    texts = [x for x in (fuzz.random_text(r) for _ in range(90)) if "\0" not in x and x][:60]
    for s in texts:
        ids, plain = t.encode(s).ids, t.encode(s, add_special_tokens=False).ids
        rows.append(text(dict(text=s, ids=ids, ids_plain=plain,
                              decoded=t.decode(plain, skip_special_tokens=False),
                              decoded_skip=t.decode(ids, skip_special_tokens=True))))
    write(f"{out}/kinds/{name}/texts.jsonl", "\n".join(rows) + "\n")

def byte_offsets(encoding, a, b=None):
    """Begins and ends in bytes of the text that each id comes from."""
    at = [[0, *itertools.accumulate(len(c.encode()) for c in s)] for s in (a, b or "")]
    for (begin, end), k in zip(encoding.offsets, encoding.sequence_ids):
        yield at[k or 0][begin], at[k or 0][end]

def spans_line(offsets):
    out, last = [], 0
    for begin, end in offsets:
        out.append(("" if begin == last else f"@{begin} ") + str(end - begin))
        last = end
    return " ".join(out)

def fnv1a(data):
    h = 0x811c9dc5
    for byte in data: h = (h ^ byte) * 0x01000193 & 0xffffffff
    return h

def model_spans(minilm):
    for name, path in (("smollm2", out + "/smollm2/tokenizer.json"), ("minilm", minilm + "/tokenizer.json")):
        t = Tokenizer.from_file(path)
        t.no_padding(); t.no_truncation()
        texts = [json.loads(line)["text"] for line in open(f"{out}/{name}.jsonl")]
        write(f"{out}/{name}.spans", "".join(spans_line(byte_offsets(t.encode(s), s)) + "\n"
                                            for s in texts if "\0" not in s))
        if name == "minilm":
            pairs = [json.loads(line) for line in open(out + "/minilm_pairs.jsonl")]
            write(out + "/minilm_pairs.spans", "".join(
                spans_line(byte_offsets(t.encode(p["a"], p["b"]), p["a"], p["b"])) + "\n" for p in pairs))

def kind_hashes(name, t, texts):
    hashes = []
    for e, s in zip(t.encode_batch(texts), texts):
        spans = list(byte_offsets(e, s))
        values = [*e.ids, *(x[0] for x in spans), *(x[1] for x in spans)]
        hashes.append(f"{fnv1a(struct.pack(f'<{len(values)}i', *values)):08x}\n")
    write(f"{out}/kinds/{name}/hashes", "".join(hashes))

fuzz.VOCAB = 500
names = sys.argv[2:] if sys.argv[1] == "kinds" else None
if not names:
    models(*sys.argv[1:4])
    model_spans(sys.argv[2])
r = random.Random("offsets")
texts = [x for x in (fuzz.random_text(r) for _ in range(700)) if "\0" not in x and x][:500]
write(out + "/kinds.txt", "".join(text(s) + "\n" for s in texts))
for name in names or list(fuzz.KINDS) + list(fuzz.FOLDERS):
    if name in fuzz.KINDS:
        t = fuzz.KINDS[name]()
        write(f"{out}/kinds/{name}/tokenizer.json", t.to_str())
    else:
        os.makedirs(f"{out}/kinds/{name}", exist_ok=True)
        t = fuzz.FOLDERS[name](f"{out}/kinds/{name}")
    kind_texts(name, t)
    kind_hashes(name, t, texts)
