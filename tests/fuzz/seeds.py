"""Makes the first inputs of the fuzz targets from the golden files: what
`make fuzz-run` begins with beside tests/fuzz/corpus.

Usage: python3 tests/fuzz/seeds.py FOLDER    (from the top folder)
"""
import glob
import hashlib
import json
import os
import re
import struct
import sys

GOLDEN = "tests/golden/"
out = sys.argv[1]


def read(path):
    with open(GOLDEN + path, "rb") as f:
        return f.read()


def put(target, name, data):
    os.makedirs(f"{out}/{target}", exist_ok=True)
    with open(f"{out}/{target}/{name}", "wb") as f:
        f.write(data)


def names_in(target, array):
    """The entries of a table in a target's source, whose indices are bytes."""
    with open(f"tests/fuzz/fuzz_{target}.c") as f:
        body = re.search(array + r"\[\] = \{(.*?)\};", f.read(), re.S).group(1)
    return re.findall(r'"([^"]*)"', body)


def byte(n):
    return bytes([n])


def gguf(kv, tensors=()):
    def string(s):
        s = s if isinstance(s, bytes) else s.encode()
        return struct.pack("<Q", len(s)) + s

    def value(v):
        if isinstance(v, bool):
            return struct.pack("<I?", 7, v)
        if isinstance(v, int):
            return struct.pack("<II", 4, v)
        if isinstance(v, float):
            return struct.pack("<If", 6, v)
        if isinstance(v, list):
            if isinstance(v[0], str):
                return struct.pack("<IIQ", 9, 8, len(v)) + b"".join(map(string, v))
            kind = "<f" if isinstance(v[0], float) else "<i"
            return (struct.pack("<IIQ", 9, 6 if kind == "<f" else 5, len(v)) +
                    b"".join(struct.pack(kind, x) for x in v))
        return struct.pack("<I", 8) + string(v)

    data, at = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kv)), 0
    for k, v in kv.items():
        data += string(k) + value(v)
    for name, dims in tensors:
        data += string(name) + struct.pack("<I", len(dims))
        data += b"".join(struct.pack("<Q", d) for d in reversed(dims))
        data += struct.pack("<IQ", 0, at)
        n = 4
        for d in dims:
            n *= d
        at += (n + 31) // 32 * 32
    return data + b"\0" * (-len(data) % 32)


def stores():
    put("gguf", "all", read("store/all.gguf"))
    put("safetensors", "all", read("store/all.safetensors"))
    shards = ["model.safetensors.index.json", "config.json"]
    shards += [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)]
    for i, name in enumerate(shards):
        put("index", f"{i}", byte(i) + read("store/sharded/" + name))
        if i > 1:
            put("safetensors", f"shard{i}", read("store/sharded/" + name))


def configs():
    for i, name in enumerate(names_in("config", "families")):
        data = json.loads(read(f"tiny/{name}/config.json"))
        put("config", name, byte(i) + json.dumps(data).encode())
        put("json", name, json.dumps(data).encode())
    texts = [b'{"a":[1,-2.5e3,true,null,"\\u00e9\\n"],"b":{}}', b"[[[[0]]]]", b'"\\ud83d\\ude00"',
             b"\xef\xbb\xbf[]", b" 12345678901234567890 "]
    for i, t in enumerate(texts):
        put("json", f"text{i}", t)


def gguf_models():
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["a", "b", "ab"]
    n = len(tokens)
    spm = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
           "tokenizer.ggml.scores": [float(-i) for i in range(n)],
           "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 3}
    for arch, extra, more in (
            ("llama", {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0},
             []),
            ("qwen2", {}, [("attn_q.bias", [16]), ("attn_k.bias", [8]), ("attn_v.bias", [8])]),
            ("gemma", {}, [])):
        kv = {"general.architecture": arch, "general.name": "tiny", f"{arch}.block_count": 1,
              f"{arch}.embedding_length": 16, f"{arch}.feed_forward_length": 24,
              f"{arch}.attention.head_count": 2, f"{arch}.attention.head_count_kv": 1,
              f"{arch}.attention.key_length": 8, f"{arch}.context_length": 64,
              f"{arch}.attention.layer_norm_rms_epsilon": 1e-5, f"{arch}.rope.freq_base": 1e4}
        kv.update(extra)
        rows = n if arch == "llama" else 32
        t = [("token_embd.weight", [rows, 16]), ("output_norm.weight", [16])]
        for name, dims in [("attn_norm.weight", [16]), ("attn_q.weight", [16, 16]),
                           ("attn_k.weight", [8, 16]), ("attn_v.weight", [8, 16]),
                           ("attn_output.weight", [16, 16]), ("ffn_norm.weight", [16]),
                           ("ffn_gate.weight", [24, 16]), ("ffn_up.weight", [24, 16]),
                           ("ffn_down.weight", [16, 24])] + more:
            t.append(("blk.0." + name, dims))
        put("gguf_model", arch, gguf({**kv, **spm} if arch == "llama" else kv, t))
        put("gguf", arch, gguf(kv))
    put("gguf", "spm", gguf(spm))


def tokenizers():
    for path in glob.glob(GOLDEN + "tokenizers/kinds/*") + glob.glob(GOLDEN + "data/*"):
        kind = os.path.basename(path)
        if not os.path.exists(path + "/tokenizer.json"):
            continue
        with open(path + "/tokenizer.json") as f:
            t = json.load(f)
        shrink(t)
        put("tokenizer", kind, json.dumps(t, ensure_ascii=False).encode())
        m = t["model"]
        if m["type"] == "BPE" and kind in ("gpt2", "roberta", "qwen2", "chat"):
            merges = "\n".join(x if isinstance(x, str) else " ".join(x) for x in m["merges"])
            name = {"roberta": "RobertaTokenizer", "qwen2": "Qwen2Tokenizer"}.get(kind, "")
            cfg = json.dumps({"tokenizer_class": name or "GPT2Tokenizer", "bos_token": "<s>",
                              "unk_token": {"content": "<unk>"}})
            vocab = json.dumps(m["vocab"], ensure_ascii=False)
            put("vocab_merges", kind, f"{vocab}\0#version: 0.2\n{merges}\n\0{cfg}".encode())
    bert = read("data/bert/vocab.txt"), read("data/bert/tokenizer_config.json")
    put("vocab_txt", "bert", bert[0] + b"\0" + bert[1])
    special = b'{"bos_token":"<|im_start|>","pad_token":{"content":"<|endoftext|>"}}'
    parts = [read("data/chat/tokenizer_config.json"), special, b'{"eos_token_id":[2,3]}',
             b'{"bos_token_id":1}', b"{{ messages[0].content }}"]
    put("tokenizer_config", "chat", b"\0".join(parts))
    parts[0] = json.dumps({"added_tokens_decoder": {"300": {"content": "<new>", "special": True}},
                           "add_bos_token": True, "tokenizer_class": "LlamaTokenizer",
                           "chat_template": [{"name": "default", "template": "x"}]}).encode()
    put("tokenizer_config", "added", b"\0".join(parts))


def shrink(t):
    """Leaves some forty tokens and the merges between them."""
    model = t["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = model["vocab"][:60]
        return
    keep = [a["content"] for a in t.get("added_tokens", [])]
    keep += [v for v in model["vocab"] if len(v) == 1][:40] + list(model["vocab"])[:20]
    if model.get("unk_token"):
        keep.append(model["unk_token"])
    merges = []
    for m in model.get("merges", []):
        a, b = m.split(" ") if isinstance(m, str) else m
        if len(merges) < 10 and a + b in model["vocab"]:
            merges.append(m)
            keep += [a, b, a + b]
    model["vocab"] = {k: v for k, v in model["vocab"].items() if k in keep}
    if "merges" in model:
        model["merges"] = merges


def gguf_tokenizers():
    common = "general.architecture llama\ntokenizer.ggml.bos_token_id #1\n" \
             "tokenizer.ggml.eos_token_id #2\ntokenizer.ggml.add_bos_token !1\n" \
             "tokenizer.chat_template {{ bos_token }}{{ messages[0]['content'] }}\n"
    words = ["<unk>", "<s>", "</s>", "\u0120", "h", "e", "l", "o", "he", "ll", "hell", "hello"]
    put("gguf_tokenizer", "gpt2", (
        common + "tokenizer.ggml.model gpt2\ntokenizer.ggml.pre llama-bpe\ntokenizer.ggml.tokens ["
        + "\t".join(words) + "\ntokenizer.ggml.token_type [#2\t3\t3" + "\t1" * 9 +
        "\ntokenizer.ggml.merges [h e\tl l\the ll\thell o\n").encode())
    put("gguf_tokenizer", "spm", (
        common + "tokenizer.ggml.model llama\ntokenizer.ggml.tokens [" + "\t".join(words) +
        "\ntokenizer.ggml.scores [~0\t0\t0" + "".join(f"\t{-i}" for i in range(9)) +
        "\ntokenizer.ggml.token_type [#2\t3\t3" + "\t1" * 9 + "\n").encode())
    put("gguf_tokenizer", "bert", (
        "tokenizer.ggml.model bert\ntokenizer.ggml.tokens [[PAD]\t[UNK]\t[CLS]\t[SEP]\t\u2581the\t"
        "\u2581cat\ts\ntokenizer.ggml.cls_token_id #2\ntokenizer.ggml.seperator_token_id #3\n"
    ).encode())


def templates():
    with open(GOLDEN + "jinja.jsonl") as f:
        for line in f:
            row = json.loads(line)
            if "template" in row and len(row["template"]) < 3000:
                put("jinja", re.sub(r"\W", "_", row["name"]), row["template"].encode())
    rows = ["{{ messages|map(attribute='role')|join(',')|upper }}",
            "{% macro f(x, y=2) %}{{ x * y }}{% endmacro %}{{ f(3) }}{{ f('a', y=3) }}",
            "{% set ns = namespace(a=1) %}{% for i in range(5) %}{% if loop.last %}{% break %}"
            "{% endif %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}",
            "{{ tools|tojson(indent=2) }}{{ messages[1]['content'][1:3]|trim }}",
            "{{ '%s %d'|format('a', 3) }}{{ 'a b'.split()|reverse|list }}{{ 7 // 2 ** 3 % 5 }}",
            "{% generation %}{{ x is defined }}{% endgeneration %}{{ strftime_now('%Y') }}"]
    for i, r in enumerate(rows):
        put("jinja", f"row{i}", r.encode())
    put("jinja", "vars", b"{{ a }}{{ b.c }}\0" + b'{"a": [1, "x"], "b": {"c": 0.5}}')


def rows():
    jsonl = [
        (0, '{"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"a"}]}'),
        (0, '{"prompt":"a","completion":"b"}'), (0, '{"text":"hello a b"}'),
        (0, '{"instruction":"a","input":"b","output":"c"}'),
        (4, '{"text":"a","label":"good"}'), (2, '{"text":"the cat","label":1}'),
        (2, '{"text":"the cat","text_pair":"runs","label":0.5}'),
        (8, '{"input_ids":[1,2,3],"labels":[-100,2,3]}'), (8, '{"input_ids":[1,2],"label":1}'),
        (0, '{"conversations":[{"from":"human","value":"a"},{"from":"gpt","value":"b"}]}'),
        (0, '{"conversations":[{"from":"function_call","value":"{}"}],"system":"a","tools":"[]"}'),
        (0, '{"instruction":"a","output":"b","history":[["c","d"]]}'),
        (0, '{"segments":[{"label":true,"text":"a"}]}'),
        (0, '{"messages":[{"role":"user","content":"a","train":true},{"role":"assistant","content":'
            '"bc","train_detail":[{"begin_offset":0,"end_offset":0,"train":false}]}]}'),
        (0, '{"instruction":"a","chosen":"b","rejected":"c"}'),
        (128, '{"a":"b","text":"c"}'), (0, '[{"text":"a"},\n{"text":"b"}]'),
        (9, "a\n\nb b b b b b b b"),
    ]
    for i, (bits, row) in enumerate(jsonl):
        put("data", f"jsonl{i}", byte(bits) + (row + "\n" + row + "\n").encode())
    csv = [(1, "text\nhello\n\"a \"\"b\"\"\"\n"), (5, "text,label\nhello,good\n\"a,\nb\",bad\n"),
           (1, "prompt,completion\na,b\n"), (9, 'input_ids\n"[1,2]"\n'), (3, "text,label\na,1\n")]
    for i, (bits, text) in enumerate(csv):
        put("data", f"csv{i}", byte(bits) + text.encode())


def shards():
    """Rows of tokens, a question and its window, names of classes: see lib/data/shard.c."""
    def record(kind, n, n_labels=0, n_ends=0, flags=0, label=-1):
        return struct.pack("<12if4xq", kind, n, n_labels, n_ends, 0, flags, 0, label, 0, 0, 0, 0, 0, 1)

    def shard(name, bits, task, body, kind=0, names=()):
        made_by = {"tokenizer": hashlib.sha256(hashlib.sha256(b"").digest()).hexdigest(),
                   "chat template": "", "system message": "", "prefix": "", "vocabulary": 300,
                   "max_len": 64, "train_on_prompt": 0, "causal": 1 - (bits & 1),
                   "encoder-decoder": 0, "start token": 0, "window": 64, "stride": 0,
                   "label_all": 0, "head for ids": 0}
        end = json.dumps({"settings": made_by, "file": "a", "hash": "", "schema": "s", "version": 1,
                          "task": task, "texts": 1, "masks": 0, "rows": 1, "truncated": 0,
                          "skipped": 0, "kind": kind, "most": 0, "names": list(names)}).encode()
        put("shard", name, byte(bits) + b"PEFTROWS" + body + end + hashlib.sha256(end).digest() +
            struct.pack("<q", len(end)) + b"PEFTROWS")

    shard("golden-lm", 0, 0, record(1, 2, 2) + struct.pack("<4i", 5, 6, -100, 6))
    shard("golden-class", 1, 1, record(1, 2, label=1) + struct.pack("<2i", 5, 6), 1, ["a", "b"])
    shard("golden-span", 1, 5, record(2, 2, 1, 6) + struct.pack("<4i", 0, 1, 1, 2) + b"q\0cd\0c" +
          bytes(2) + record(1, 2, flags=1) + struct.pack("<2i", 5, 6))


def adapter_formats():
    for name in "lora", "lora_f16":
        put("adapter_format", name, byte(0) + read(f"formats/{name}.gguf"))
    n = len(names_in("adapter_format", "kinds"))
    for i, kind in enumerate(names_in("adapter_format", "kinds")):
        put("adapter_format", kind,
            byte(2 * (i or n)) + read(f"formats/{kind}/adapter_config.json"))
        put("adapter_format", kind + "_t",
            byte(2 * i + 1) + read(f"formats/{kind}/adapters.safetensors"))


def adapters():
    for i, kind in enumerate(names_in("adapter", "kinds")):
        put("adapter", kind, byte(2 * i) + read(f"peft/{kind}/adapter_config.json"))
        put("adapter", kind + "_t", byte(2 * i + 1) + read(f"peft/{kind}/adapter_model.safetensors"))


def texts():
    sample = "Hello, the cat's 12345 d\u00f6gs <s></s>\n\n  \u2581 \u4f60\u597d [MASK]<|im_end|> e\u0301"
    for i, _ in enumerate(names_in("encode", "folders")):
        put("encode", f"{i}", byte(i) + sample.encode())
    for i, _ in enumerate(names_in("decode", "folders")):
        put("decode", f"{i}", byte(i) + b"\1" + struct.pack("<16H", *range(0, 320, 20)))
    for i in range(28):
        put("quant", f"{i}", byte(i) + bytes(range(256)) * 2)


def few_pieces(model):
    """A SentencePiece model (protobuf) with its first 40 pieces."""
    def number(at):
        n = shift = 0
        while True:
            n |= (model[at] & 127) << shift
            shift += 7
            at += 1
            if model[at - 1] < 128:
                return n, at

    at, kept, pieces = 0, b"", 0
    while at < len(model):
        tag, begin = number(at)
        assert tag & 7 == 2
        n, begin = number(begin)
        end = begin + n
        pieces += tag >> 3 == 1
        if tag >> 3 != 1 or pieces <= 40:
            kept += model[at:end]
        at = end
    return kept


def others():
    for i, (kind, name) in enumerate((("llama", "tokenizer.model"), ("t5", "spiece.model"),
                                      ("xlmr", "sentencepiece.bpe.model"))):
        folder = f"tokenizers/kinds/spm-{kind}/"
        config = read(folder + "tokenizer_config.json") + b"\0"
        put("spm", kind, byte(i) + config + few_pieces(read(folder + name)))
    for path in glob.glob(GOLDEN + "vision/*.png") + glob.glob(GOLDEN + "vision/*.jpg"):
        name = os.path.basename(path)
        put("picture", name.replace(".", "-"), byte(2) + read("vision/" + name))
    for name in ("clip", "crop", "vit"):
        put("preprocessor", name, byte(0) + read(f"vision/{name}.json"))
    put("preprocessor", "config", byte(1) + read("vision/odd/config.json"))
    for i, kind in enumerate(names_in("bnb", "kinds")):
        data = read(f"bnb/{kind}/model.safetensors")
        end = 8 + struct.unpack("<Q", data[:8])[0]
        for name, t in json.loads(data[8:end]).items():
            if "quant_state" in name:
                begin, stop = t["data_offsets"]
                put("bnb", f"state{i}", byte(i) + data[end + begin:end + stop])
                break
        put("bnb", f"bytes{i}", byte(i | 8) + struct.pack("<HBHB", end + 700, 99, end + 900, 255))


for make in (stores, configs, gguf_models, tokenizers, gguf_tokenizers, templates, rows, shards,
             adapters, adapter_formats, texts, others):
    make()
