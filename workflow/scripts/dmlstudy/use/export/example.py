"""Name photographs with an exported model. Needs numpy, pillow and onnxruntime.

python example.py photo.jpg more.jpg
"""

import json
import os
import sys
from pathlib import Path

# ONNX Runtime would tell its maker how it is used.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FOLDER = Path(__file__).resolve().parent


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


STEPS = {step["step"]: step for step in read("preprocessing.json")["steps"]}


def to_rgb(image):
    """8 bits per channel, transparent parts on the background. Deep grey images: see docs/export.md."""
    if image.mode == "F" or image.mode.startswith("I"):
        raise ValueError("a grey image of more than 8 bits; save it with 8 bits")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        background = (*STEPS["to_rgb"]["background"], 255)
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert("RGB")


def resized(image):
    step = STEPS["resize"]
    width, height = image.size
    if step["mode"] == "squash":
        size = (step["size"], step["size"])
    elif width <= height:
        size = (step["size"], int(step["size"] * height / width))
    else:
        size = (int(step["size"] * width / height), step["size"])
    method = Image.Resampling[step["interpolation"].upper()]
    return image if image.size == size else image.resize(size, method)


def tensor(path):
    """The input of the model for one photograph: float32 (1, 3, size, size)."""
    with Image.open(path) as opened:
        opened.load()
        pixels = np.asarray(resized(to_rgb(ImageOps.exif_transpose(opened))))
    crop, scale = STEPS["centre_crop"], STEPS["normalise"]
    # Python rounds half to even.
    top, left = (round((pixels.shape[i] - crop[n]) / 2) for i, n in enumerate(("height", "width")))
    pixels = pixels[top : top + crop["height"], left : left + crop["width"]]
    values = (pixels / scale["divide_by"] - scale["mean"]) / scale["std"]
    return values.transpose(2, 0, 1)[None].astype(np.float32)


def main(paths):
    names = {one["class_id"]: one["name"] for one in read("classes.json")["classes"]}
    chosen = read("thresholds.json")["chosen"]
    gallery = np.load(FOLDER / "gallery.npz")
    session = onnxruntime.InferenceSession(FOLDER / "model.onnx")
    for path in paths:
        (embedding,) = session.run(["embeddings"], {"images": tensor(path)})
        similarities = gallery["embeddings"] @ embedding[0]
        nearest = int(similarities.argmax())
        similarity = float(similarities[nearest])
        name = names[int(gallery["class_ids"][nearest])]
        if chosen and similarity < chosen["similarity"]:
            name = f"unknown (would be {name})"
        print(f"{path}: {name}; similarity {similarity:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
