"""Heat maps as files, and as pictures. No torch: pages read this.

A folder holds ``heatmaps.csv`` (a row per map: query, model, class), ``heatmaps.npz`` (the maps) and
``localisation.csv`` (how well maps of some more queries find the boxes); see `explanation.explain`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dmlstudy.core.files import StudyError, atomic_path
from dmlstudy.data.dataset import write_csv
from dmlstudy.explain.localisation import CORNERS

# Columns that are empty where there is no box.
NUMBERS = ("share_in_box", "pointing_hit", *CORNERS)
HOT = np.array([255, 64, 0], dtype=np.float32)


@dataclass
class Heatmaps:
    """``table``, ``maps`` (n, h, w) uint8, ``figures``, and what the maps were taken from.

    ``layer``: stage of the backbone; ``image_size``: side of the crops in pixels; ``resize``: name of
    the test pack's resize, such as "shorter224".
    """

    table: pd.DataFrame
    maps: np.ndarray
    figures: pd.DataFrame
    layer: str
    image_size: int
    resize: str


def save_heatmaps(folder, heatmaps):
    """Write `Heatmaps` into ``folder``; each file appears whole or not at all."""
    folder = Path(folder)
    write_csv(folder / "heatmaps.csv", heatmaps.table)
    write_csv(folder / "localisation.csv", heatmaps.figures)
    with atomic_path(folder / "heatmaps.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            maps=heatmaps.maps,
            layer=heatmaps.layer,
            image_size=heatmaps.image_size,
            resize=heatmaps.resize,
        )


def load_heatmaps(folder):
    """The `Heatmaps` of a folder; StudyError if its files do not belong together."""
    folder = Path(folder)
    # A class may be called "NA"; what has no box is empty.
    table = pd.read_csv(
        folder / "heatmaps.csv",
        keep_default_na=False,
        na_values={name: [""] for name in NUMBERS},
        dtype={"class_name": str},
    )
    figures = pd.read_csv(folder / "localisation.csv")
    with np.load(folder / "heatmaps.npz", allow_pickle=False) as stored:
        maps, layer, resize = stored["maps"], str(stored["layer"]), str(stored["resize"])
        image_size = int(stored["image_size"])
    if len(maps) != len(table):
        raise StudyError(f"{folder}: {len(maps)} maps, but heatmaps.csv has {len(table)} rows")
    return Heatmaps(table, maps, figures, layer, image_size, resize)


def seen_crop(pack, row, image_size):
    """What a model sees of image ``row`` of the test pack: uint8 (image_size, image_size, 3)."""
    picture = pack.image(row)
    top, left = (round((side - image_size) / 2) for side in picture.shape[:2])
    return np.asarray(picture[top : top + image_size, left : left + image_size])


def overlay(picture, heat, opacity=0.65):
    """A picture (side, side, 3) with a map (h, w), both uint8, laid over it in red: the same shape.

    Where there is no heat the picture shows as it is.
    """
    side = picture.shape[0]
    grown = Image.fromarray(heat).resize((side, side), Image.Resampling.BICUBIC)
    share = opacity * np.asarray(grown, dtype=np.float32)[:, :, None] / 255
    return np.round((1 - share) * picture + share * HOT).astype(np.uint8)
