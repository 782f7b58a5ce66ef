#!/usr/bin/env python3
"""Pictures between libpeft and transformers + PEFT: adapters and models that libpeft trained, loaded there,
give its probabilities; image processors agree.  Needs torch, transformers, peft, pillow."""
import os
import tempfile

from common import ROOT, FAILED, check, check_true, libpeft, np, torch, transformers
from peft import PeftModel
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

TINY = os.path.join(ROOT, "tests/golden/tiny/vit")
VISION = os.path.join(ROOT, "tests/golden/vision")
FILES = [os.path.join(TINY, "%s.png" % n) for n in ("a0", "a1", "c0", "c1")] + \
        [os.path.join(VISION, n) for n in ("rgb.png", "halved.jpg")]


def theirs(model, processor):
    with torch.no_grad():
        x = [processor(Image.open(f).convert("RGB"), return_tensors="pt")["pixel_values"] for f in FILES]
        return model.eval()(torch.cat(x)).logits.softmax(-1).numpy()


def ours(model):
    return np.array([[model.classify_image(f)[n] for n in model.labels] for f in FILES])


def main():
    work = tempfile.mkdtemp()
    processor = ViTImageProcessorPil(size=dict(height=16, width=16))
    with libpeft.Model(TINY) as m:
        m.add_adapter(rank=4, targets="query,fc1,o_proj", seed=1)
        with m.trainer(m.dataset(TINY + "/data.csv"), steps=8, lr=5e-3, batch=2, augment="flip") as trainer:
            for _ in trainer:
                pass
        m.save_adapter(work + "/adapter")
        want = ours(m)
        m.merge()
        m.save(work + "/merged")
    base = transformers.ViTForImageClassification.from_pretrained(TINY)
    before = theirs(base, processor)
    tuned = PeftModel.from_pretrained(base, work + "/adapter")
    got = theirs(tuned, processor)
    check("PEFT's probabilities with our adapter", float(np.abs(got - want).max()), 1e-5)
    check_true("the adapter does something", np.abs(got - before).max() > 1e-3)
    merged = transformers.ViTForImageClassification.from_pretrained(work + "/merged")
    check("transformers' with our merged model", float(np.abs(theirs(merged, processor) - want).max()), 1e-5)
    for name in ("ViTImageProcessor", "ViTImageProcessorPil"):
        cls = getattr(transformers, name, None) or ViTImageProcessorPil
        p = cls.from_pretrained(work + "/merged")
        with libpeft.Model(work + "/merged") as m:
            worst = max(float(np.abs(np.asarray(m.pixels(f)) - np.asarray(
                p(Image.open(f).convert("RGB"), return_tensors="np")["pixel_values"][0])).max()) for f in FILES)
        check("pixels against %s, in levels" % name, worst * 127.5, 1.01)
    tuned.save_pretrained(work + "/theirs")
    with libpeft.Model(TINY) as m:
        m.load_adapter(work + "/theirs")
        check("our probabilities with PEFT's adapter", float(np.abs(ours(m) - want).max()), 1e-5)
    raise SystemExit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
