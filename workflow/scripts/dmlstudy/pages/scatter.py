"""Accuracy against drop, as a plot of plain HTML: it is there before any script has run."""

from matplotlib.ticker import MaxNLocator

from dmlstudy.evaluate.deductions import hundredths

ACCURACY, DROP = "precision_at_1", "precision_drop_unseen_classes"
# Air around the outermost values, as a share of their range.
AIR = 0.08


def scatter(study, kinds):
    """Points of all trained experiments and the axes: {"points", "x_ticks", "y_ticks", "alt"}.

    Positions are in per cent of the plot. Rows without training have no drop and are left out.
    ``kinds``: {experiment: kind of its row}. A point has its values and intervals as text too.
    """
    points = []
    for name in study.trained:
        accuracy, drop = study.metric(name, ACCURACY), study.metric(name, DROP)
        if accuracy is not None and drop is not None:
            points.append((name, accuracy, drop))
    x_axis = _axis([one for _, one, _ in points])
    y_axis = _axis([one for _, _, one in points], hold_zero=True)
    drawn = []
    for name, accuracy, drop in points:
        drawn.append(
            {
                "experiment": name,
                "kind": kinds[name],
                "leading": name == study.leading,
                "x": _place(accuracy, x_axis),
                "y": _place(drop, y_axis),
                "text": f"precision@1 {_text(accuracy)} %, drop {_text(drop)} points",
            }
        )
    return {
        "points": drawn,
        "x_ticks": _ticks(x_axis),
        "y_ticks": _ticks(y_axis),
        "alt": f"Precision@1 of the all-classes model against the drop on unseen classes of {len(drawn)} "
        "trained experiments, with 95 % intervals. The table below has the numbers.",
    }


def _ends(one):
    return [float(one[key]) for key in ("value", "low", "high") if one[key] == one[key]]


def _axis(metrics, hold_zero=False):
    """(least, most) of an axis of shares."""
    values = [value for one in metrics for value in _ends(one)] + [0.0] * hold_zero or [0.0]
    least, most = min(values), max(values)
    air = AIR * max(most - least, 0.02)
    return least - air, most + air


def _at(value, axis):
    return round(100 * (value - axis[0]) / (axis[1] - axis[0]), 2)


def _place(one, axis):
    """Positions of a value and of the ends of its interval; an end that is missing is the value."""
    value, *ends = _ends(one)
    low, high = ends or (value, value)
    return {"at": _at(value, axis), "low": _at(low, axis), "high": _at(high, axis)}


def _ticks(axis):
    least, most = (100 * end for end in axis)
    values = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(least, most)
    return [
        {"at": _at(value / 100, axis), "text": f"{value:g}".replace("-", "−")}
        for value in values
        if least <= value <= most
    ]


def _text(one):
    value, *ends = (hundredths(value) for value in _ends(one))
    return f"{value} [{', '.join(ends)}]" if ends else value
