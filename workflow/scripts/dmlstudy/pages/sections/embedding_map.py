"""The two-dimensional map of the embedding: data for the script ``map.js``."""

import re
from collections import Counter

from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``map``:

    points of both models, images by id and classes by number; ``models``: their titles; ``sample``:
    {"shown", "all", "classes"} if the map has only some of the images.
    """
    images, shown = experiment.images, (experiment.full, experiment.limited)
    models = []
    for class_set in shown:
        tables = experiment.models[class_set]
        points = tables["map"]
        answers = tables["queries"].set_index("image_id")["nearest_class_id"]
        queries = points.loc[points["is_query"] == 1, "image_id"]
        models.append(
            {
                "ids": points["image_id"].tolist(),
                "x": points["x"].round(3).tolist(),
                "y": points["y"].round(3).tolist(),
                "queries": len(queries),
                "answers": answers[queries].tolist(),
            }
        )
    mapped = sorted(set().union(*(one["ids"] for one in models)))
    summary = experiment.models[experiment.full]["summary"]
    count, classes = summary["queries"] + summary["gallery"], images.manifest["class_id"]
    sample = {"shown": len(mapped), "all": count, "classes": int(classes[mapped].nunique())}
    return {
        "sample": sample if len(mapped) < count else None,
        "seed": experiment.seed,
        "models": [model_title(class_set) for class_set in shown],
        "map": {
            "models": models,
            "names": experiment.class_names,
            "genera": genera(experiment.class_names),
            "seen": experiment.seen[experiment.limited].astype(int).tolist(),
            "classes": classes.tolist(),
            "places": {image: images.thumbnail(image) for image in mapped},
            "columns": images.columns,
        },
    }


def genera(class_names):
    """The genus of each class, guessed from its name; the class name itself if it has none.

    In names such as ``001.Black_footed_Albatross`` the last word is the genus. In Linnaean names,
    two words of which the second is not capitalised, the first word is the genus. A word counts as
    a genus only if at least two classes have it.
    """
    plain = [re.sub(r"^\d+\.", "", name) for name in class_names]
    found = []
    for name in plain:
        words = re.split(r"[_\s]+", name.strip("_ "))
        binomial = len(words) == 2 and words[1][:1].islower()
        found.append(words[0] if binomial else words[-1])
    counts = Counter(found)
    return [genus if counts[genus] > 1 else name for genus, name in zip(found, plain, strict=True)]
