#!/usr/bin/env python3
"""Makes bnb/: weights and tiny Llamas as bitsandbytes and transformers store them.

Needs torch, transformers, bitsandbytes, safetensors; everything is random, so there is
no licence but the project's.

bnb/quant.safetensors: for SRC in even, ragged, edge and KIND in nf4, fp4
  SRC.src, SRC.KIND.packed, SRC.KIND.absmax, SRC.KIND.dequant: blocks of 64
  SRC.KIND.dequant_f16, .dequant_bf16: the same blocks for weights of 16 bits
  SRC.nf4dq.absmax_u8, .offset, .absmax2: double quantisation; code.dynamic8
bnb/MODEL: saved by save_pretrained; MODEL.logits in bnb/logits.safetensors are those of the
  weights that bitsandbytes expands, in float32, for the ids 3 to 18.
"""
import os
import shutil
import sys

os.environ.update(HF_HUB_OFFLINE="1", TORCHDYNAMO_DISABLE="1")
import bitsandbytes.functional as F
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute as expand
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig
from transformers import LlamaForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bnb")
torch.set_num_threads(1)
CLASSES = {"llama": LlamaForCausalLM, "gpt2": GPT2LMHeadModel}
CONFIGS = {
    # Rows of 40 and 72: no whole blocks.
    "llama": LlamaConfig(hidden_size=40, intermediate_size=72, num_hidden_layers=1,
                         num_attention_heads=4, num_key_value_heads=2, vocab_size=40,
                         max_position_embeddings=64, tie_word_embeddings=True),
    "even": LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                        num_attention_heads=4, num_key_value_heads=2, vocab_size=40,
                        max_position_embeddings=64, tie_word_embeddings=True),
    "gpt2": GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=40, n_positions=32),
}
# folder: configuration, bits, kind, double quantisation, dtype
MODELS = {
    "nf4": ("llama", 4, "nf4", False, torch.float32),
    "nf4_dq_bf16": ("llama", 4, "nf4", True, torch.bfloat16),
    "fp4_dq": ("llama", 4, "fp4", True, torch.float32),
    "fp4_f16": ("llama", 4, "fp4", False, torch.float16),
    "gpt2_nf4": ("gpt2", 4, "nf4", False, torch.float32),
    "int8": ("even", 8, None, False, torch.float32),
}


def dequantize(q, state, dtype):
    absmax = state.absmax
    if state.nested:
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    return expand(q.reshape(-1), absmax, state.code, state.blocksize, state.shape, dtype)


def blocks():
    g = torch.Generator().manual_seed(5)
    src = {
        "even": torch.randn(24, 64, generator=g) * torch.logspace(-3, 1, 24).view(-1, 1),
        "ragged": torch.randn(5, 37, generator=g),
        "edge": torch.cat([torch.zeros(64), torch.full((64,), 1e-30), torch.linspace(-3, 3, 64),
                           torch.tensor([1e4] + [1e-3] * 63)]).view(4, 64),
    }
    out = {}
    for name, w in src.items():
        out[f"{name}.src"] = w
        for kind in ("nf4", "fp4"):
            q, state = F.quantize_4bit(w, quant_type=kind, blocksize=64)
            at = f"{name}.{kind}."
            out[at + "packed"], out[at + "absmax"] = q.flatten(), state.absmax
            out[at + "dequant"] = dequantize(q, state, torch.float32)
            assert torch.equal(out[at + "dequant"], F.dequantize_4bit(q, state))
            out[at + "dequant_f16"] = dequantize(q, state, torch.float16)
            out[at + "dequant_bf16"] = dequantize(q, state, torch.bfloat16)
        q, state = F.quantize_4bit(w, quant_type="nf4", blocksize=64, compress_statistics=True)
        at = f"{name}.nf4dq."
        out[at + "absmax_u8"], out[at + "offset"] = state.absmax, state.offset.view(1)
        out[at + "absmax2"] = state.state2.absmax
        out["code.dynamic8"] = state.state2.code
    save_file({k: v.contiguous().clone() for k, v in out.items()}, HERE + "/quant.safetensors")


def plain(model, kind):
    """A float32 model with the weights that the quantised one stands for."""
    m = CLASSES[kind.model_type](kind).float()
    state = {k: v.float() for k, v in model.state_dict().items() if v.is_floating_point()}
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            w = module.weight
            w = dequantize(w.data, w.quant_state, w.quant_state.dtype).float()
        elif isinstance(module, Linear8bitLt):
            w = F.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
        else:
            continue
        state[name + ".weight"] = w.t() if kind.model_type == "gpt2" else w
    state = {k: v for k, v in state.items() if k in m.state_dict()}
    missing, _ = m.load_state_dict(state, strict=False)
    assert set(missing) <= {"lm_head.weight"}, missing
    m.tie_weights()
    return m.eval()


def models():
    logits = {}
    base = HERE + "/base"
    for name, (config, bits, kind, double, dtype) in MODELS.items():
        config = CONFIGS[config]
        torch.manual_seed(3)
        model = CLASSES[config.model_type](config)
        for p in model.parameters():
            p.data *= 4
        model.save_pretrained(base)
        q = BitsAndBytesConfig(load_in_8bit=True) if bits == 8 else BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=dtype)
        model = CLASSES[config.model_type].from_pretrained(base, dtype=dtype, device_map="cpu",
                                                           quantization_config=q)
        model.save_pretrained(f"{HERE}/{name}")
        with torch.no_grad():
            logits[name + ".logits"] = plain(model, config)(torch.arange(3, 19).view(1, -1)).logits[0]
        shutil.rmtree(base)
    save_file(logits, HERE + "/logits.safetensors")


shutil.rmtree(HERE, ignore_errors=True)
os.makedirs(HERE)
blocks()
models()
