"""Makes comparison.png: a part of cat.png enlarged by repeating pixels, bicubically, and by gsrcli.

python examples/comparison.py [--model gsasr-lite]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import gsrcli

HERE = Path(__file__).parent
SCALE = 5
PART = (62, 22, 132, 92)  # left, top, right, bottom in cat.png


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="gsasr-lite")
    model = options.parse_args().model
    cat = Image.open(HERE / "cat.png").convert("RGB")
    size = (cat.width * SCALE, cat.height * SCALE)
    panels = {
        "pixels": cat.resize(size, Image.Resampling.NEAREST),
        "bicubic": cat.resize(size, Image.Resampling.BICUBIC),
        "gsr upscale --scale 5": gsrcli.upscale(cat, SCALE, model=model),
    }
    side = (PART[2] - PART[0]) * SCALE
    sheet = Image.new("RGB", (len(panels) * (side + 8) - 8, side + 30), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, panel) in enumerate(panels.items()):
        left = column * (side + 8)
        sheet.paste(panel.crop(tuple(SCALE * edge for edge in PART)), (left, 30))
        draw.text((left + side / 2, 14), title, "black", ImageFont.load_default(18), anchor="mm")
    sheet.save(HERE / "comparison.png", optimize=True)


if __name__ == "__main__":
    main()
