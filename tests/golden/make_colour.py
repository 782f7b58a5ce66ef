"""Makes colour.txt: pixels before and after torchvision's adjust_saturation and adjust_hue.

    python tests/golden/make_colour.py tests/golden

A line: which, factor, red, green, blue as bytes, and what becomes of them, 0 to 255."""
import os
import sys

import torch
from torchvision.transforms.v2 import functional as F

CORNERS = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0),
           (0, 255, 255), (255, 0, 255), (128, 128, 128), (10, 10, 200), (200, 10, 10),
           (90, 91, 90)]


def main(out):
    g = torch.Generator().manual_seed(7)
    pixels = CORNERS + torch.randint(0, 256, (12, 3), generator=g).tolist()
    image = torch.tensor(pixels, dtype=torch.float64).T.reshape(3, 1, -1) / 255
    with open(os.path.join(out, "colour.txt"), "w") as f:
        for name, change, factors in (("saturation", F.adjust_saturation, (0, 0.4, 0.8, 1.3, 2)),
                                      ("hue", F.adjust_hue, (-0.5, -0.3, -0.05, 0.1, 0.25, 0.5))):
            for factor in factors:
                after = (change(image, factor) * 255).reshape(3, -1).T.tolist()
                for was, now in zip(pixels, after):
                    f.write("%s %g %d %d %d %.4f %.4f %.4f\n" % (name, factor, *was, *now))


if __name__ == "__main__":
    main(sys.argv[1])
