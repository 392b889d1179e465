"""Does what is photographed move away from what is enrolled? Compares the newest answers with those before.

Three signs: similarities fall, more answers are unknown, one class gets more answers than before.
"""

import numpy as np
from scipy.stats import fisher_exact, mannwhitneyu

from dmlstudy.evaluate.intervals import holm

# So many of the newest answers are compared with so many before them, and no fewer than LEAST of each.
NEWEST, BEFORE, LEAST = 200, 2000, 50
# A sign warns below this p-value. It is small because the page is looked at again and again.
LEVEL = 0.01
# Points of the curve, and the fewest answers of a point.
POINTS, OF_A_POINT = 30, 20
# Photographs that are named for a sign.
SHOWN = 12


def find_drift(table, threshold, names):
    """What the page shows of drift.

    ``table``: see `AnswerLog.rows`; ``threshold``: the similarity below which an answer is unknown, now, which
    judges older answers too; ``names``: {class id: name} of the classes that are enrolled now.

    Returns a dict: ``answers`` (how many are logged), ``newest`` and ``before`` (how many are compared; 0 if
    there are too few), ``needed`` (answers until they can be compared), ``signs`` (list of dicts: ``sign``,
    ``warns``, ``sentence``, ``newest`` and ``before`` (its figure of both), ``p_value``, ``doubts``: ids of
    doubtful answers whose photographs show it), ``curve`` (list of dicts: ``time``, ``answers``,
    ``similarity`` (median), ``unknown`` (share)).
    """
    table = table.assign(unknown=table["similarity"] < threshold)
    newest = table.iloc[-min(NEWEST, len(table) // 2) :] if len(table) > 1 else table
    before = table.iloc[: len(table) - len(newest)].iloc[-BEFORE:]
    enough = min(len(newest), len(before)) >= LEAST
    return {
        "answers": len(table),
        "newest": len(newest) if enough else 0,
        "before": len(before) if enough else 0,
        "needed": 0 if enough else 2 * LEAST - len(table),
        "signs": list(_signs(newest, before, names)) if enough else [],
        "curve": list(_curve(table)),
    }


def _signs(newest, before, names):
    similarity, earlier = newest["similarity"], before["similarity"]
    p = float(mannwhitneyu(similarity, earlier, alternative="less").pvalue)
    low, high = float(similarity.median()), float(earlier.median())
    yield _sign(
        "similarities",
        p,
        f"the median similarity of the newest {len(newest)} answers is {low:.4f}; of {len(before)} before, {high:.4f}",
        (low, high),
        newest.sort_values("similarity"),
    )
    p = _more(newest["unknown"], before["unknown"])
    shares = float(newest["unknown"].mean()), float(before["unknown"].mean())
    yield _sign(
        "unknown",
        p,
        f"{100 * shares[0]:.0f} % of the newest {len(newest)} answers are unknown; of {len(before)} before, "
        f"{100 * shares[1]:.0f} %",
        shares,
        newest[newest["unknown"]],
    )
    # Only of classes that answer: unknown photographs have none.
    known, old = (one[~one["unknown"] & one["class_id"].isin(names)] for one in (newest, before))
    classes = sorted(set(known["class_id"]))
    if not classes or not len(old):
        return
    values = holm([_more(known["class_id"] == one, old["class_id"] == one) for one in classes])
    first = int(np.argmin(values))
    swallows = classes[first]
    mine = known["class_id"] == swallows
    shares = float(mine.mean()), float((old["class_id"] == swallows).mean())
    yield _sign(
        "class",
        float(values[first]),
        f"{names[swallows]}: {100 * shares[0]:.0f} % of the newest {len(known)} known answers; of {len(old)} before, "
        f"{100 * shares[1]:.0f} %",
        shares,
        known[mine],
    )


def _sign(sign, p, sentence, figures, rows):
    return {
        "sign": sign,
        "warns": p < LEVEL,
        "sentence": sentence,
        "newest": figures[0],
        "before": figures[1],
        "p_value": p,
        "doubts": rows["doubt_id"].dropna().drop_duplicates().tolist()[:SHOWN],
    }


def _more(newest, before):
    """p-value of Fisher's exact test that a share is not larger than before; boolean series."""
    table = [
        [int(newest.sum()), int((~newest).sum())],
        [int(before.sum()), int((~before).sum())],
    ]
    return float(fisher_exact(table, alternative="greater").pvalue)


def _curve(table):
    """Points of equally many answers, oldest first."""
    if not len(table):
        return
    count = max(1, min(POINTS, len(table) // OF_A_POINT))
    for rows in np.array_split(np.arange(len(table)), count):
        part = table.iloc[rows]
        yield {
            "time": float(part["time"].iloc[-1]),
            "answers": len(part),
            "similarity": float(part["similarity"].median()),
            "unknown": float(part["unknown"].mean()),
        }
