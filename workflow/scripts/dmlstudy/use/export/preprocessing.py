"""How the study makes an input tensor of a photograph, as data: preprocessing.json.

`data.images`, `data.resizing` and `compute.batches` do it; docs/export.md explains each value. Torch is not
imported here.
"""

from dmlstudy.data import images
from dmlstudy.data.deep_grey import DEPTHS
from dmlstudy.data.resizing import parse_resize

VERSION = 1


def preprocessing(stored):
    """The content of preprocessing.json, by the contents of a model.pt: steps in the order of their use."""
    resize, side = parse_resize(stored["test_resize"]), stored["recipe"]["image_size"]
    return {
        "version": VERSION,
        "test_resize": stored["test_resize"],
        "steps": [
            {
                "step": "decode",
                "with": "Pillow",
                "exif_orientation": "applied",
            },
            {
                "step": "to_rgb",
                "channel_order": "RGB",
                "bits": 8,
                "transparency": "composited",
                "background": list(images._BACKGROUND[:3]),
                "transparent_colour_above_255": "its upper 8 bits",
                # Grey images of more than 8 bits (Pillow's modes I, I;16 and F).
                "deep_grey": {
                    "depths": list(DEPTHS),
                    "depth": "the bits per value that a TIFF declares below 16, else the smallest depth "
                    "above the highest value",
                    "keep": "the upper 8 bits",
                    "float_up_to_1": "times 255, rounded half to even",
                },
            },
            {
                "step": "resize",
                "mode": resize.mode,
                "size": resize.size,
                "other_side": "floor(size * longer / shorter)"
                if resize.mode == "shorter"
                else None,
                "interpolation": resize.interpolation,
                "antialias": True,
                "with": "Pillow",
                "skip_if_equal": True,
            },
            {
                "step": "centre_crop",
                "height": side,
                "width": side,
                "offset": "(length - size) / 2",
                "rounding": "half to even",
            },
            {
                "step": "normalise",
                "divide_by": 255,
                "mean": list(stored["mean"]),
                "std": list(stored["std"]),
                "formula": "(pixel / divide_by - mean) / std, per channel",
            },
            {
                "step": "arrange",
                "layout": "NCHW",
                "dtype": "float32",
                "shape": ["batch", 3, side, side],
            },
        ],
    }
