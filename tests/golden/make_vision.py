#!/usr/bin/env python3
"""Golden references for pictures: files of every kind with what Pillow makes of them, resizing, image
processors of transformers, and models that make_tiny.py has not (CLIP's image tower, odd shapes).

Needs torch, transformers, pillow.  Usage:  python make_vision.py OUTDIR   (tests/golden/vision)
Pictures and weights are made here from seeds; nothing is taken from elsewhere.
"""
import json, os, struct, sys, zlib
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np, torch, transformers
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTForImageClassification, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers import ViTImageProcessor, CLIPImageProcessor
out = sys.argv[1]; os.makedirs(out, exist_ok=True)
W, H = 37, 23

def picture(seed=0, c=3):
    """Smooth areas, edges and noise."""
    r = np.random.default_rng(seed); y, x = np.mgrid[0:H, 0:W]
    p = np.stack([120 + 100 * np.sin(x / (3 + k) + k) * np.cos(y / 4) + 60 * ((x + 2 * y) % 11 > 7) for k in range(c)], -1)
    return np.clip(p + r.normal(0, 6, p.shape), 0, 255).astype(np.uint8)

def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def adam7(px):
    raw = b""
    for x0, y0, dx, dy in ((0,0,8,8),(4,0,8,8),(0,4,4,8),(2,0,4,4),(0,2,2,4),(1,0,2,2),(0,1,1,2)):
        for row in px[y0::dy, x0::dx]:
            if row.size: raw += b"\0" + row.tobytes()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", px.shape[1], px.shape[0], 8, 2, 0, 0, 1)) +
            chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))

def png16(px):
    rows = b"".join(b"\0" + r.tobytes() for r in px.astype(">u2"))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", px.shape[1], px.shape[0], 16, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))

rgb = Image.fromarray(picture()); grey = Image.fromarray(picture(1, 1)[:, :, 0])
exif = Image.Exif(); exif[0x0112] = 6
files = {
    "rgb.png": (rgb, {}), "grey.png": (grey, {}), "rgba.png": (Image.merge("RGBA", (*rgb.split(), grey)), {}),
    "palette.png": (rgb.quantize(32), dict(transparency=3)), "one_bit.png": (grey.point(lambda v: 255 * (v > 120)).convert("1"), {}),
    "turned.png": (rgb, dict(exif=exif)), "rgb.jpg": (rgb, dict(quality=90)), "grey.jpg": (grey, dict(quality=85)),
    "halved.jpg": (rgb, dict(quality=80, subsampling=2)), "cmyk.jpg": (rgb.convert("CMYK"), dict(quality=90)),
    "progressive.jpg": (rgb, dict(quality=70, progressive=True)), "turned.jpg": (rgb, dict(quality=85, exif=exif)),
}
for name, (im, how) in files.items(): im.save(f"{out}/{name}", **how)
open(out + "/interlaced.png", "wb").write(adam7(picture()))
open(out + "/rgb16.png", "wb").write(png16(picture().astype(np.uint16) * 256 + 77))
T = {}
for name in sorted(f for f in os.listdir(out) if f.endswith((".png", ".jpg"))):
    im = ImageOps.exif_transpose(Image.open(f"{out}/{name}"))
    T[name] = np.asarray(im.convert("RGB")); T[name + ".grey"] = np.asarray(im.convert("RGB").convert("L") if im.mode != "L" else im)
for code, how in enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")):
    for w, h in ((16, 16), (50, 31), (37, 9)): T[f"resize.{how}.{w}x{h}"] = np.asarray(rgb.resize((w, h), resample=code))

# image processors: the PIL ones are what is matched; torchvision's are within one level
procs = {
    "vit": (ViTImageProcessorPil, ViTImageProcessor, dict(size=dict(height=16, width=16))),
    "clip": (CLIPImageProcessorPil, CLIPImageProcessor, dict(size=dict(shortest_edge=16), crop_size=dict(height=16, width=16))),
    "crop": (CLIPImageProcessorPil, CLIPImageProcessor, dict(size=dict(shortest_edge=12), crop_size=dict(height=16, width=15), resample=2, image_mean=[0.2, 0.3, 0.4], image_std=[0.9, 0.8, 0.7])),
}
for name, (pil, tv, kw) in procs.items():
    p = pil(**kw); T["pixels." + name] = np.ascontiguousarray(p(rgb, return_tensors="np")["pixel_values"][0].astype(np.float32))
    d = np.abs(T["pixels." + name] - tv(**kw)(rgb, return_tensors="np")["pixel_values"][0]).max()
    json.dump({k: v for k, v in json.loads(p.to_json_string()).items() if not k.startswith("_")}, open(f"{out}/{name}.json", "w"), indent=1)
    print(name, "PIL against torchvision:", float(d * 255 * max(p.image_std)), "levels")

def reinit(m):
    for n, p in m.named_parameters():
        x = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(n.encode())))
        p.data.copy_(x * 0.1 + 1 if "norm" in n and n.endswith("weight") else x * (0.05 if p.ndim == 1 else 0.2))
def model(name, m, run, shape):
    reinit(m); m.eval(); m.save_pretrained(f"{out}/{name}")
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(): y = run(m, x)
    T[name + ".pixels"] = x.numpy(); T[name + ".out"] = y.numpy()
cfg = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
model("clip", CLIPVisionModelWithProjection(CLIPVisionConfig(**cfg, image_size=8, patch_size=4, projection_dim=12)), lambda m, x: m(x).image_embeds, (3, 8, 8))
odd = dict(cfg, image_size=[9, 14], patch_size=[4, 3], num_channels=1, hidden_act="gelu_new", qkv_bias=False)   # a border that no patch covers
model("odd", ViTForImageClassification(ViTConfig(**odd, num_labels=3)), lambda m, x: m(x).logits, (1, 9, 14))
model("bare", ViTModel(ViTConfig(**dict(cfg, image_size=8, patch_size=4))), lambda m, x: m(x).last_hidden_state[:, 0], (3, 8, 8))
save_file({k: np.ascontiguousarray(v) for k, v in T.items()}, out + "/expected.safetensors")
