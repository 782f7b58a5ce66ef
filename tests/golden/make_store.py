"""Writes tests/golden/store: containers by the reference writers, which
test_store.c reads and writes again byte for byte.

    python tests/golden/make_store.py      (torch, safetensors, gguf, huggingface_hub)
"""
import json
import os
import shutil

import gguf
import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "store")
shutil.rmtree(out, ignore_errors=True)
os.makedirs(out)


def ramp(*shape, dtype=torch.float32):
    """0, 1, 2 ... in the given shape: exact in every type, easy to check."""
    n = int(np.prod(shape))
    return (torch.arange(n) % 100).reshape(shape).to(dtype)


# Every type that is carried, a scalar, a tensor without elements, and names
# that need escapes or sort by bytes.
save_file({
    "b.f32": ramp(3, 5), "a.f32": ramp(4), "Z.f32": ramp(2, 2, 2, 2),
    "h.f16": ramp(5, 3, dtype=torch.float16), "g.bf16": ramp(7, dtype=torch.bfloat16),
    "d.f64": ramp(3, dtype=torch.float64), "i.i64": ramp(2, 2, dtype=torch.int64),
    "i.i32": ramp(3, dtype=torch.int32), "i.i16": ramp(3, dtype=torch.int16),
    "i.i8": ramp(3, dtype=torch.int8), "u.u8": ramp(5, dtype=torch.uint8),
    "flag": torch.tensor([True, False, True]), "scalar": torch.tensor(7.0),
    "e.f8": ramp(5, dtype=torch.float8_e4m3fn), "f.f8": ramp(5, dtype=torch.float8_e5m2),
    "none": torch.zeros(0, 4), 'q"uote\\back/\u00e9\u0001\n': ramp(1),
}, os.path.join(out, "all.safetensors"), metadata={"format": "pt"})

# A folder with shards, in the order of the state dictionary.
folder = os.path.join(out, "sharded")
os.makedirs(folder)
state = {f"layer.{i}.{part}": ramp(4 + i, 8) for i in range(4) for part in ("weight", "bias")}
save_torch_state_dict(state, folder, max_shard_size=500)
with open(os.path.join(folder, "config.json"), "w") as f:
    json.dump({"model_type": "none", "hidden_size": 8, "rms_norm_eps": 1e-5, "tie": True,
               "sliding_window": None, "rope_scaling": {"factor": 2.5}}, f, indent=2)

# GGUF: every value type, an array of most, four tensor types.
w = gguf.GGUFWriter(os.path.join(out, "all.gguf"), "llama")
w.add_uint8("v.u8", 200)
w.add_int8("v.i8", -100)
w.add_uint16("v.u16", 60000)
w.add_int16("v.i16", -30000)
w.add_uint32("v.u32", 4000000000)
w.add_int32("v.i32", -2000000000)
w.add_uint64("v.u64", 2**63 + 5)
w.add_int64("v.i64", -2**62)
w.add_float32("v.f32", 0.25)
w.add_float64("v.f64", 1e-5)
w.add_bool("v.bool", True)
w.add_string("v.string", "gr\u00fc\u00dfe")
w.add_array("a.strings", ["", "b", "\u4e2d\u6587", "last"])
w.add_array("a.f32", [0.5, -1.5])
w.add_array("a.i32", [1, -2, 3])
w.add_array("a.bool", [True, False])
data = np.arange(64, dtype=np.float32).reshape(2, 32)
w.add_tensor("f32", data)
w.add_tensor("f16", data.astype(np.float16))
for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
    w.add_tensor(kind.name, gguf.quants.quantize(data, kind), raw_dtype=kind)
w.add_tensor("last", np.arange(3, dtype=np.float32))
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

# The reference makes its files private; those of a repository are not.
for at, _, names in os.walk(out):
    for name in names:
        os.chmod(os.path.join(at, name), 0o644)
