"""Pairs of classes that a model confuses; the most costly pairs are shown with images."""

from dmlstudy.pages.long_tables import first_rows
from dmlstudy.pages.rendering import model_title
from dmlstudy.pages.sections.trios import trio

# Pairs that are shown with images, and example queries per pair.
PAIRS, EXAMPLES = 8, 5


def values(experiment):
    """``models``: the confusions of the all-classes model and of the first limited one."""
    return {
        "models": [
            _confusions(experiment.models[class_set], class_set, experiment)
            for class_set in (experiment.full, experiment.limited)
        ]
    }


def _confusions(tables, class_set, experiment):
    file = f"seed{experiment.seed}/{class_set}/confusions.csv"
    queries = tables["queries"]
    pairs = first_rows(tables["confusions"].to_dict("records"), file)
    wrong = queries[queries["correct"] == 0].sort_values(
        ["similarity", "image_id"], ascending=[False, True]
    )
    by_pair = dict(list(wrong.groupby(["class_id", "nearest_class_id"])))
    shown = []
    for pair in pairs["rows"][:PAIRS]:
        examples = by_pair[pair["class_id"], pair["nearest_class_id"]].head(EXAMPLES)
        shown.append(
            {
                **pair,
                "first": trio(experiment.images, examples.to_dict("records")[0]),
                "others": [
                    experiment.images.image(image_id) for image_id in examples["image_id"][1:]
                ],
            }
        )
    return {
        "seed": experiment.seed,
        "title": model_title(class_set),
        "examples": shown,
        **pairs,
    }
