"""The page of photographs whose label may be wrong."""

from dmlstudy.pages.images import data_uri, resized_image, webp
from dmlstudy.pages.rendering import render

# Photographs that are shown. The table has all.
SHOWN = 100
# Longer side of a photograph in pixels.
SIDE = 160


def named(found, manifest, parts, class_names):
    """The table of `suspected_labels.suspected_labels` with paths, names of classes, and parts.

    Columns: image_id, path, part, class_name, suggested_class_name, score, nearest_image_id,
    nearest_path.
    """
    paths = manifest["path"].to_numpy()
    ids, nearest = found["image_id"].astype(int), found["nearest_image_id"].astype(int)
    return found[["image_id"]].assign(
        path=paths[ids],
        part=parts[ids],
        class_name=[class_names[one] for one in found["class_id"]],
        suggested_class_name=[class_names[one] for one in found["suggested_class_id"]],
        score=found["score"],
        nearest_image_id=nearest,
        nearest_path=paths[nearest],
    )


def suspects_page(table, pack, manifest, *, experiment, untrained, note=""):
    """The page as HTML, without scripts from elsewhere.

    ``table``: see `named`; ``pack``: an open `Pack`; ``experiment``: whose embeddings they are;
    ``untrained``: whether its features have seen none of the labels.
    """
    sizes = manifest[["width", "height"]].to_numpy()

    def image(image_id):
        drawn = resized_image(pack, image_id, *sizes[image_id], SIDE)
        return {"uri": data_uri(webp(drawn)), "width": drawn.width, "height": drawn.height}

    shown = [
        {
            **one._asdict(),
            "image": image(one.image_id),
            "nearest": image(one.nearest_image_id),
            "nearest_class_name": manifest["class_name"].iat[one.nearest_image_id],
        }
        for one in table.head(SHOWN).itertuples()
    ]
    return render(
        "suspects.html.j2",
        title=f"Suspected labels, by {experiment}",
        note=note,
        shown=shown,
        count=len(table),
        photographs=len(manifest),
        untrained=untrained,
    )
