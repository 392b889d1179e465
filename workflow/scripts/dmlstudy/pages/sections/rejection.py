"""How well a threshold on similarity rejects queries of classes that are not enrolled."""

from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``models``: chart and table of each limited model of the first seed; ``scores``, ``thresholds``: rows."""
    return {
        "models": [
            _rejection(tables, class_set, experiment.seed)
            for class_set, tables in experiment.models.items()
            if class_set != experiment.full
        ],
        "scores": _rows(experiment.rejection_scores, experiment.seed),
        "thresholds": _rows(experiment.rejection_thresholds, experiment.seed),
    }


def _rows(table, seed):
    """Rows of a table of the experiment, of the first seed, with titles for models and ways."""
    rows = table[table["seed"] == seed].to_dict("records")
    for row in rows:
        for key in ("model", "class_set", "way"):
            if key in row:
                row[key] = model_title(row[key])
    return rows


def _rejection(tables, class_set, seed):
    curve = tables["rejection_curve"]
    traces = [
        line(
            model_title(model),
            rows["false_positive_rate"].tolist(),
            rows["true_positive_rate"].tolist(),
            index=index,
            shape="hv",
            mode="lines",
            customdata=rows["threshold"].tolist(),
            hovertemplate="threshold %{customdata:.3f}<br>%{y:.1%} of known accepted<br>%{x:.1%} of unseen accepted",
        )
        for index, (model, rows) in enumerate(curve.groupby("model", sort=False))
    ]
    traces.append(line("chance", [0, 1], [0, 1], index=7, dashed=True, mode="lines"))
    drawn = chart(
        f"rejection-{class_set}",
        f"Queries accepted by a threshold on similarity ({model_title(class_set)}, seed {seed})",
        "Receiver operating characteristic: share of known queries that are accepted, by share of "
        "queries of unseen classes that are accepted. The table below has the area.",
        traces,
        x_title="queries of unseen classes accepted",
        y_title="known queries accepted",
        percent_x=True,
        percent_y=True,
    )
    return {"chart": drawn, "id": class_set, "rows": tables["rejection"].to_dict("records")}
