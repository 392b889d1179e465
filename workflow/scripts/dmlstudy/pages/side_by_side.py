"""Any two models of a study, side by side: what the script ``side.js`` reads from the comparison page.

The answers of all models to the test photographs are in the page, compressed. Heat maps and maps of the embedding are
in a script beside each experiment's page (`beside`), which the page loads if it is wanted and there.
"""

import base64
import gzip
import json
import math
import os
import posixpath
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.metrics import distance
from dmlstudy.evaluate.side_by_side import ALL, LIMITED
from dmlstudy.pages.captions import PARTS
from dmlstudy.pages.images import data_uri, sprite, sprite_columns

# Answers in the page, of all models together: more would make it too large.
ANSWERS = 150_000
# Test photographs, and classes with an example, that have a thumbnail in the page; its side in pixels.
PHOTOGRAPHS, EXAMPLES, SIDE = 400, 200, 48
# Name of the script beside an experiment's page.
BESIDE = "beside.js"


def spread(count, most):
    """Numbers below ``count``, evenly spread, at most ``most`` of them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def tenths(value):
    """A share in tenths of a point, an integer, as tables of the page round it; None for NaN."""
    return None if math.isnan(value) else round(10 * round(100 * value, 1))


def side_by_side(answers, class_set, pairs, images, thumbnails, links):
    """What the template shows: {"packed": text for the script, "experiments", "beside": {experiment: link to its
    script}, "queries", "shown", "photographs": how many queries there are, are in the page, have a thumbnail}.

    ``answers``: {experiment: `study_metrics.Answers`}, of which the first seed is shown, and ``class_set`` of
    the limited models; ``pairs``: see `side_by_side.pair_differences`; ``images``: a `PageImages`;
    ``links``: see `comparison_page.comparison_pages`; ``thumbnails``: link from the page to the sprite of all images. Raises StudyError
    if a table calls an answer right whose class is another.
    """
    models = {}
    for name, one in answers.items():
        models[name, ALL], models[name, LIMITED] = one.all[0], one.limited[class_set][0]
    tables = list(models.values())
    all_queries = tables[0]["image_id"].to_numpy()
    shown = spread(len(all_queries), max(1, ANSWERS // len(models)))
    queries = all_queries[shown]
    class_ids = images.manifest["class_id"].to_numpy()
    nearest = []
    for (name, kind), table in models.items():
        found = table["nearest_image_id"].to_numpy()
        if not np.array_equal(class_ids[found] == class_ids[all_queries], table["correct"] == 1):
            raise StudyError(
                f"{name} ({kind}): queries.csv calls answers right that have another class than their query"
            )
        nearest.append(found[shown])
    named = np.unique(np.concatenate([queries, *nearest]))
    place = np.zeros(len(class_ids), dtype=np.int64)
    place[named] = np.arange(len(named))
    width = np.uint16 if len(named) <= np.iinfo(np.uint16).max else np.uint32
    examples = images.firsts.iloc[spread(len(images.firsts), EXAMPLES)].to_numpy()
    pictured = np.unique(np.concatenate([queries[spread(len(queries), PHOTOGRAPHS)], examples]))
    data = {
        "names": images.manifest.drop_duplicates("class_id").sort_values("class_id")["class_name"].tolist(),
        "images": named.tolist(),
        "paths": images.manifest["path"].iloc[named].tolist(),
        "classes": class_ids[named].tolist(),
        "parts": {"query": PARTS["test"], "nearest": PARTS["train"]},
        "queries": _binary(place[queries].astype(width)),
        "wide": width is np.uint32,
        "models": [list(model) for model in models],
        "nearest": [_binary(place[found].astype(width)) for found in nearest],
        # Hundredths, between 0 and 200.
        "distances": [
            _binary(np.round(100 * distance(table["similarity"].to_numpy()[shown])).astype(np.uint8))
            for table in tables
        ],
        "pairs": [[*map(tenths, pair), _real(pair)] for pair in pairs.values()],
        "sprite": {
            "uri": data_uri(sprite(images.pack, pictured, images.manifest, SIDE)),
            "images": pictured.tolist(),
            "examples": [[int(class_ids[image]), int(image)] for image in examples],
            "columns": sprite_columns(len(pictured)),
        },
        "beside": {
            "uri": thumbnails,
            "columns": images.columns,
        },
    }  # fmt: skip
    return {
        "packed": packed(data),
        "experiments": list(answers),
        "beside": {
            name: posixpath.join(posixpath.dirname(link), BESIDE)
            for name, (link, _) in links.items()
        },
        "queries": len(all_queries),
        "shown": len(queries),
        "photographs": int(np.isin(queries, pictured).sum()),
    }


def _real(pair):
    """1 or −1 if the interval of a difference excludes 0, else 0."""
    _, low, high = pair
    return int(low > 0) - int(high < 0)


def _binary(values):
    """Unsigned integers as base64, little-endian."""
    little = values.astype(values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def packed(data):
    """Data as JSON, compressed, in base64. Without a time in its header, gzip gives the same bytes each time."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii"))


def relative_link(path, folder):
    """A link to a file from a page in ``folder``."""
    return quote(os.path.relpath(path, folder).replace(os.sep, "/"))


def beside(name, heatmaps, embedding_map):
    """The script that holds an experiment's heat maps and maps, for the page of all experiments.

    ``heatmaps``, ``embedding_map``: what the sections of the experiment's page show (`heatmaps.values`,
    `embedding_map.values`). A page from a file may load a script, but no other file.
    """
    data = {
        "experiment": name,
        "heatmaps": [
            {
                "image": case["image_id"],
                "query": case["image"],
                "maps": [
                    {
                        "model": LIMITED if one["limited"] else ALL,
                        "true_class": one["of_true_class"],
                        "name": one["name"],
                        "image": one["image"],
                    }
                    for one in case["maps"]
                ],
            }
            for case in heatmaps["cases"]
        ],
        "classes": embedding_map["map"]["classes"],
        "names": embedding_map["map"]["names"],
        "maps": dict(zip((ALL, LIMITED), embedding_map["map"]["models"], strict=True)),
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), default=int)
    return f"besideLoaded({text});\n"
