"""The page of the check-up that shows photographs which a data set holds several times."""

from pathlib import Path

from PIL import Image

from dmlstudy.core.console import printable
from dmlstudy.data.copies import BITS
from dmlstudy.data.images import open_rgb
from dmlstudy.pages.images import data_uri, webp
from dmlstudy.pages.rendering import render

# Sets and photographs of a set that are shown, so that the page stays below 10 MB. The table has all.
SETS, PHOTOGRAPHS = 300, 8
# Longer side of a photograph in pixels.
SIDE = 160
# Problems in the order of the page, with what they mean.
PROBLEMS = {
    "in two classes": "Different labels for one photograph: at least one of them is wrong, if these are copies.",
    "in two parts": "A test photograph finds its own copy among the training photographs.",
    "twice": "Harmless, but the photograph counts more than once.",
    "dropped": "The split uses at most one of each set.",
}


def copies_page(table, images, *, dataset, duplicates, near, max_pixels):
    """The page as HTML, without scripts from elsewhere.

    ``table``: that of `copy_search.CopySearch`; ``images``: folder of the data set; ``dataset``: its name;
    ``duplicates`` and ``near``: the protocol's values. Raises StudyError for an image that cannot be read.
    """
    groups = []
    left = SETS
    for problem, meaning in PROBLEMS.items():
        found = table[table["problem"] == problem]
        sets = list(found.groupby("set"))
        groups.append(
            {
                "problem": problem,
                "meaning": meaning,
                "count": len(sets),
                "sets": [_set(rows, images, max_pixels) for _, rows in sets[:left]],
            }
        )
        left -= min(left, len(sets))
    return render(
        "copies.html.j2",
        title=f"Copies among the photographs of {dataset}",
        groups=[group for group in groups if group["count"]],
        sets=table["set"].nunique(),
        photographs=len(table),
        duplicates=duplicates,
        near=near,
        bits=BITS,
    )


def _set(rows, images, max_pixels):
    shown = [
        {
            "path": printable(one.path),
            "class_name": one.class_name,
            "part": one.part,
            "distance": one.distance,
            "mirrored": one.mirrored == "yes",
            **_photograph(Path(images) / one.path, max_pixels),
        }
        for one in rows.head(PHOTOGRAPHS).itertuples()
    ]
    return {"kind": rows["kind"].iat[0], "shown": shown, "further": len(rows) - len(shown)}


def _photograph(path, max_pixels):
    """{"uri", "width", "height", "size"} of one photograph, reduced; ``size`` is the original's."""
    image = open_rgb(path, max_pixels=max_pixels)
    size = f"{image.width} × {image.height}"
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    width, height = image.size
    return {"uri": data_uri(webp(image)), "width": width, "height": height, "size": size}
