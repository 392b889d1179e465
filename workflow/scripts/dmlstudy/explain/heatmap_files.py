"""Heat maps as files and as images. Does not import torch, because pages use it.

A folder has ``heatmaps.csv`` (a row per map: query, model, class), ``heatmaps.npz`` (the maps) and
``localisation.csv`` (how well the maps of further queries find bounding boxes); see
`explanation.explain`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dmlstudy.core.files import StudyError, atomic_path
from dmlstudy.data.dataset import write_csv
from dmlstudy.explain.localisation import CORNERS

# Columns that are empty for images without a box.
NUMBERS = ("share_in_box", "pointing_hit", *CORNERS)
# Colour of the hottest place, RGB.
HOT = np.array([255, 64, 0], dtype=np.float32)


@dataclass
class Heatmaps:
    """Heat maps of an experiment and how they were made.

    ``table``: a row per map; ``maps``: uint8 (n, h, w); ``localisation``: see
    `localisation.localisation_table`; ``layer``: the backbone layer whose output the maps show;
    ``image_size``: side of the crops in pixels; ``resize``: name of the test pack's resize, such as
    "shorter224".
    """

    table: pd.DataFrame
    maps: np.ndarray
    localisation: pd.DataFrame
    layer: str
    image_size: int
    resize: str


def save_heatmaps(folder, heatmaps):
    """Write `Heatmaps` into ``folder``. Each file is complete or does not exist."""
    folder = Path(folder)
    write_csv(folder / "heatmaps.csv", heatmaps.table)
    write_csv(folder / "localisation.csv", heatmaps.localisation)
    with atomic_path(folder / "heatmaps.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            maps=heatmaps.maps,
            layer=heatmaps.layer,
            image_size=heatmaps.image_size,
            resize=heatmaps.resize,
        )


def load_heatmaps(folder):
    """Read the `Heatmaps` of a folder. Raises StudyError if its files do not fit together."""
    folder = Path(folder)
    # A class may be called "NA", so only the columns of numbers may have missing values.
    table = pd.read_csv(
        folder / "heatmaps.csv",
        keep_default_na=False,
        na_values={name: [""] for name in NUMBERS},
        dtype={"class_name": str},
    )
    localisation = pd.read_csv(folder / "localisation.csv")
    with np.load(folder / "heatmaps.npz", allow_pickle=False) as stored:
        maps, layer, resize = stored["maps"], str(stored["layer"]), str(stored["resize"])
        image_size = int(stored["image_size"])
    if len(maps) != len(table):
        raise StudyError(f"{folder}: {len(maps)} maps, but heatmaps.csv has {len(table)} rows")
    return Heatmaps(table, maps, localisation, layer, image_size, resize)


def model_crop(pack, row, image_size):
    """The crop of image ``row`` of the test pack that a model gets:

    uint8 (image_size, image_size, 3).
    """
    image = pack.image(row)
    top, left = (round((side - image_size) / 2) for side in image.shape[:2])
    return np.asarray(image[top : top + image_size, left : left + image_size])


def overlay(image, heat, opacity=0.65):
    """An image (side, side, 3) with a map (h, w) over it in red, all uint8; the same shape.

    Pixels without heat stay unchanged.
    """
    side = image.shape[0]
    enlarged = Image.fromarray(heat).resize((side, side), Image.Resampling.BICUBIC)
    share = opacity * np.asarray(enlarged, dtype=np.float32)[:, :, None] / 255
    return np.round((1 - share) * image + share * HOT).astype(np.uint8)
