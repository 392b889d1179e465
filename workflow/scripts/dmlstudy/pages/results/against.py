"""An experiment against those that it is compared with: a sentence and differences for each."""

from dmlstudy.evaluate.deductions import accuracy_phrase, hundredths, shown
from dmlstudy.pages.results.cards import more_needed
from dmlstudy.pages.results.phrases import code, test_images
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED

# Roles of differences.csv, in the order of the page, and what the other one is to the experiment.
ROLES = {
    "like": "the experiment that it is like",
    "baseline": "the baseline",
    "classifier": "the softmax of the classifier",
    UNTRAINED: "the features before training",
}
# Metrics whose differences are shown. A drop is better if it is smaller.
METRICS = {
    "precision_at_1": "precision@1",
    UNSEEN: "unseen, limited model",
    "precision_drop_unseen_classes": "drop on unseen",
}
SMALLER_IS_BETTER = ("precision_drop_unseen_classes",)


def against(study):
    """A block for each other experiment: {"title", "other", "sentence", "needed", "rows"}, and the axis of all.

    Returns (blocks, scale). A row is {"label", "text", "interval", "value", "low", "high", "real"}:
    points that the study's leading experiment is above the other, ``real`` "better" or "worse" if the
    interval excludes 0. An experiment with two roles has one block.
    """
    name, blocks = study.leading, []
    for role, title in ROLES.items():
        row = study.difference(name, role)
        if row is None:
            continue
        other = row["compared_with"]
        known = [one for one in blocks if one["other"] == other and role != "classifier"]
        if known:
            known[0]["title"] += f" and {title}"
            continue
        blocks.append(
            {
                "title": title,
                "other": other,
                "sentence": f"{code(name)}: {accuracy_phrase(row)}.",
                "needed": more_needed(row, row["difference"], row["queries"], test_images(study)),
                "rows": _rows(study, name, role),
            }
        )
    ends = [
        one[key] for block in blocks for one in block["rows"] for key in ("value", "low", "high")
    ]
    ends = [end for end in ends if end == end]
    return blocks, (min([*ends, -0.01]), max([*ends, 0.01]))


def _rows(study, name, role):
    rows = []
    for metric, label in METRICS.items():
        one = study.difference(name, role, metric)
        # Features before training have no unseen classes, and so no drop.
        if one is None or (role == UNTRAINED and metric in SMALLER_IS_BETTER):
            continue
        value = one["difference"]
        real = None
        if shown(one):
            better = (value > 0) != (metric in SMALLER_IS_BETTER)
            real = "better" if better else "worse"
        rows.append(
            {
                "label": label,
                "text": f"{'+' if value > 0 else ''}{hundredths(value)}",
                "interval": f"[{hundredths(one['low'])}, {hundredths(one['high'])}]",
                "value": value,
                "low": one["low"],
                "high": one["high"],
                "real": real,
            }
        )
    return rows
