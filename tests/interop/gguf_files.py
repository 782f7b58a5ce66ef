#!/usr/bin/env python3
"""GGUF files that we write, read by others: the gguf package (every tensor),
transformers' own GGUF reader (logits), libpeft again, and GGUF files that the
gguf package quantised, read and written again by us.

    python tests/interop/gguf_files.py [MODEL.gguf ADAPTER | FAMILY ...]
"""
import shutil
import tempfile

from common import *
import gguf
from transformers import AutoModelForCausalLM

TINY = os.path.join(ROOT, "tests", "golden", "tiny")
# What transformers' own GGUF reader does not read.
OWN_READING = {"llama_tied_rope3": "it ignores rope_freqs",
               "mistral": "it reads a llama without its window"}
FAMILIES = ("llama", "llama_tied_rope3", "mistral", "qwen2", "qwen3")


def hf_name(name):
    layers = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
              "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
              "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
              "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
              "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    parts = name.split(".")
    if parts[0] == "blk":
        return "model.layers.%s.%s.%s" % (parts[1], layers[parts[2]], parts[3])
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight":
            "model.norm.weight", "output.weight": "lm_head.weight"}.get(name)


def unpermute(x, heads):
    """GGUF's llama interleaves the halves of each head of q and k."""
    return x.reshape(heads, x.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)


def tensors_of(path):
    reader = gguf.GGUFReader(path)
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}, reader


def compare_tensors(name, path, model, limit):
    """Against what `model` says its tensors are, in Hugging Face's order."""
    tensors, reader = tensors_of(path)
    info, worst_one, at = model.info, 0, ""
    permuted = reader.fields["general.architecture"].contents() == "llama"
    for key, x in tensors.items():
        hf = hf_name(key)
        if hf is None:
            continue
        if permuted and (".attn_q." in key or ".attn_k." in key):
            heads = info.heads if ".attn_q." in key else info.kv_heads
            x = unpermute(x if x.ndim == 2 else x[:, None], heads)
        d = max_diff(x.ravel(), read(model, hf))
        if d > worst_one:
            worst_one, at = d, key
    check("%s: %d tensors by gguf-py %s" % (name, len(tensors), at), worst_one, limit)


def ids_of(vocab):
    g = torch.Generator().manual_seed(7)
    return [torch.randint(5, vocab, (n,), generator=g).tolist() for n in (1, 9, 60)]


def requantise(source, to, kind):
    """The same file, matrices of whole blocks quantised by gguf-py."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(to, arch)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind_of = field.types[0]
        sub = field.types[-1] if kind_of == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind_of, sub_type=sub)
    for t in reader.tensors:
        if len(t.shape) == 2 and t.data.shape[-1] % 32 == 0:
            writer.add_tensor(t.name, gguf.quantize(np.array(t.data, dtype=np.float32), kind),
                              raw_dtype=kind)
        else:
            writer.add_tensor(t.name, np.array(t.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny(family, work):
    source = os.path.join(TINY, family)
    with libpeft.Model(source) as m:
        ids = ids_of(m.info.vocab)
        want = [logits(m, i) for i in ids]
        for dtype, limit, exact in (("f32", 2e-5, 0), ("f16", 0.05, 2e-3), ("bf16", 0.3, 2e-2)):
            path = os.path.join(work, "%s-%s.gguf" % (family, dtype))
            m.save(path, dtype=dtype)
            tag = "%s %s" % (family, dtype)
            compare_tensors(tag, path, m, exact)
            with libpeft.Model(path) as again:
                check(tag + " in libpeft", max(max_diff(a, logits(again, i))
                                               for a, i in zip(want, ids)), limit)
                if dtype == "f32" and again.info.has_tokenizer:
                    check_true(tag + " has a tokenizer", True)
            if dtype == "f32":
                try:
                    hf = AutoModelForCausalLM.from_pretrained(
                        work, gguf_file=os.path.basename(path), dtype=torch.float32).eval()
                    gap = max(max_diff(a, torch_logits(hf, i)) for a, i in zip(want, ids))
                    if family in OWN_READING:
                        print("     %s: transformers' GGUF reader differs by %.3g (%s)" % (
                            tag, gap, OWN_READING[family]))
                    else:
                        check(tag + " by transformers' GGUF reader", gap, 1e-4)
                except Exception as error:
                    print("     %s: transformers' GGUF reader refuses: %s: %s" % (
                        tag, type(error).__name__, str(error)[:160]))
    base = os.path.join(work, family + "-f32.gguf")
    for kind in ("Q8_0", "Q4_0", "Q4_1", "BF16", "F16"):
        path = os.path.join(work, "%s-%s.gguf" % (family, kind))
        requantise(base, path, gguf.GGMLQuantizationType[kind])
        tag = "%s %s" % (family, kind)
        with libpeft.Model(path) as m:
            compare_tensors(tag + " read", path, m, 1e-6)
            held = [logits(m, i) for i in ids]
            again = path[:-5] + "-again.gguf"
            m.save(again)
            a, b = gguf.GGUFReader(path), gguf.GGUFReader(again)
            bytes_a = {t.name: (t.tensor_type, np.array(t.data).tobytes()) for t in a.tensors}
            bytes_b = {t.name: (t.tensor_type, np.array(t.data).tobytes()) for t in b.tensors}
            check_true(tag + " written again as held, same bytes", bytes_a == bytes_b,
                       " ".join(k for k in bytes_a if bytes_a[k] != bytes_b.get(k)))
            folder = path[:-5]
            m.save(folder, dtype="f32")
            hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            check(tag + " as a folder in transformers", max(
                max_diff(x, torch_logits(hf, i)) for x, i in zip(held, ids)), 1e-4)
            m.save(path[:-5] + "-folder.gguf", dtype="f32")
        with libpeft.Model(folder) as m:
            back = path[:-5] + "-back.gguf"
            m.save(back)
        with libpeft.Model(back) as m:
            check(tag + " GGUF -> folder -> GGUF", max(
                max_diff(x, logits(m, i)) for x, i in zip(held, ids)), 1e-4)
        shutil.rmtree(folder)


def real(path, adapter, work):
    original, _ = tensors_of(path)
    with libpeft.Model(path) as m:
        ids = ids_of(m.info.vocab)
        m.load_adapter(adapter)
        m.merge()
        want = [logits(m, i) for i in ids]
        for dtype, limit, exact in ((None, 1e-4, 1e-6), ("f16", 0.1, 2e-3), ("bf16", 1.5, 2e-2)):
            out = os.path.join(work, "merged.gguf")
            m.save(out, **(dict(dtype=dtype) if dtype else {}))
            tag = "merged, %s" % (dtype or "as held")
            compare_tensors(tag, out, m, exact)
            if not dtype:
                now, reader = tensors_of(out)
                same = [k for k in original if np.array_equal(original[k], now[k])]
                check_true(tag + " untouched tensors keep their bits", len(same) == len(original)
                           - 60, "%d of %d" % (len(same), len(original)))
                old = gguf.GGUFReader(path)
                lost = sorted(set(old.fields) - set(reader.fields))
                print("     keys of the original that ours lacks: %s" % lost)
                changed = [k for k in old.fields if k in reader.fields and not k.startswith("GGUF")
                           and old.fields[k].contents() != reader.fields[k].contents()]
                check_true(tag + " metadata is the original's",
                           not set(changed) - {"general.file_type"}, " ".join(changed))
            with libpeft.Model(out) as again:
                check(tag + " in libpeft", max(max_diff(a, logits(again, i))
                                               for a, i in zip(want, ids)), limit)
            os.remove(out)


def main():
    with tempfile.TemporaryDirectory() as work:
        for family in [a for a in sys.argv[1:] if a in FAMILIES] or FAMILIES:
            print("--", family)
            try:
                tiny(family, work)
            except Exception as error:
                check_true(family + " raised", False, "%s: %s" % (type(error).__name__, error))
        if len(sys.argv) > 2 and sys.argv[1] not in FAMILIES:
            print("-- real model")
            real(sys.argv[1], sys.argv[2], work)
    finish()


main()
