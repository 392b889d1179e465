"""Every number in a table or chart of a page is that of the table it comes from, rounded as stated.

`shown_numbers` says how a page is read and how numbers are written.
"""

import math

import pytest
import yaml
from drawn_study import SEED
from shown_numbers import (
    as_is,
    charts_of,
    expected,
    formatted,
    percent,
    plain,
    points,
    rows_of,
    seconds,
    share,
    tables_of,
    words,
    wrong_cells,
    wrong_traces,
)

pytestmark = pytest.mark.pages

NAME = "EPSHN_base+1dBN"
LIMITED = "limited_classes"
MODELS = ("all_classes", LIMITED)
NEAREST = "nearest_neighbour"
# A true cell of the verdict's tables.
YES = "1"
# Tables of the main page whose numbers other tests compare: `test_main_table`.
ELSEWHERE = {"experiments"}


def own(rows):
    """Rows of the limited models themselves, not of the model of all classes beside them."""
    return [row for row in rows if row["model"] == row["class_set"]]


def shown_thresholds(folder):
    rows = own(rows_of(folder / "rejection_thresholds.csv"))
    return [row for row in rows if float(row["accepted_share"]) == 0.95]


def options(folder):
    """Rows of verdict.csv and verdict_costs.csv side by side."""
    pairs = zip(rows_of(folder / "verdict.csv"), rows_of(folder / "verdict_costs.csv"), strict=True)
    return [{**costs, **verdict} for verdict, costs in pairs]


def verdict_rows(folder):
    return [row for row in options(folder) if YES in (row["chosen"], row["on_front"])]


def compared_with(row):
    if not row["compared_with"]:
        return ""
    return f"{row['compared_with']}, {row['compared_answer'].replace('_', ' ')}"


def published(row):
    text = row["relation"]
    text += f" {percent('published')(row)}" if row["published"] else ""
    return text + (f" ({row['compared_with']})" if row["compared_with"] else "")


def index_tables(folder):
    """{table of the comparison page: the rows it must show}."""
    findings = rows_of(folder / "health.csv")
    findings = [row for kind in ("warning", "hint") for row in findings if row["finding"] == kind]
    found = {
        "answers-table": expected(
            rows_of(folder / "answers.csv"),
            *(as_is("experiment"), words("class_set"), as_is("seed"), words("answer")),
            *(share("precision_at_1"), share("difference_to_nearest")),
            *(percent("precision_at_1_seen_classes"), share("precision_at_1_unseen_classes")),
            *(percent("harmonic_mean"), share("precision_drop_unseen_classes")),
            share("rejection_auroc"),
        ),
        "rejection-scores": expected(
            own(rows_of(folder / "rejection_scores.csv")),
            *(as_is("experiment"), words("model"), as_is("seed"), as_is("score"), share("auroc")),
            *(share("false_positive_rate_at_95_tpr"), share("oscr_area")),
            *(share("risk_coverage_area"), percent("calibration_error")),
        ),
        "rejection-thresholds": expected(
            shown_thresholds(folder),
            *(as_is("experiment"), words("model"), as_is("seed"), words("way")),
            *(share("accepted_unseen_classes"), percent("accepted_other_unseen_classes")),
            *(percent("accepted_seen_classes"), percent("accepted_unknown_classes")),
        ),
        "costs-table": expected(
            rows_of(folder / "costs.csv"),
            *(as_is("experiment"), words("class_set"), as_is("seed"), as_is("device")),
            *(formatted("total_seconds", ".2f", 60), formatted("train_seconds", ".2f", 60)),
            *(formatted("images_per_second", ".0f"), formatted("peak_host_memory_mb", ".0f")),
            formatted("peak_device_memory_mb", ".0f"),
        ),
        "published-metrics": expected(
            rows_of(folder / "published.csv"),
            *(as_is("experiment"), as_is("metric"), share("published"), ours, as_is("verdict")),
            *(as_is("remark"), as_is("rule")),
        ),
        "deductions": expected(
            rows_of(folder / "published_deductions.csv"),
            *(as_is("experiment"), as_is("quantity"), published, ours, as_is("direction")),
            *(as_is("size"), as_is("remark"), as_is("rule")),
        ),
        "verdict-table": expected(
            verdict_rows(folder),
            *(as_is("experiment"), as_is("trained"), as_is("new_classes"), words("answer")),
            *(as_is("photographs"), share("precision_at_1_unseen_classes")),
            *(share("precision_at_1_seen_classes"), share("harmonic_mean")),
            *(share("difference_unseen_classes"), as_is("finding"), compared_with),
            *(time("seconds_to_train_first"), time("seconds_to_add_a_class")),
            *(time("seconds_to_add_them"), formatted("times_the_cost", ".3g")),
            *(formatted("break_even_classes", ".0f"), formatted("trained_parameters", ".2f", 1e6)),
            *(formatted("parameters", ".1f", 1e6), formatted("gflop", ".3g")),
            formatted("milliseconds_a_photograph", ".3g"),
            lambda row: "yes" if row["on_front"] == YES else "",
        ),
    }
    if findings:
        found["health-table"] = expected(
            findings,
            *(as_is("experiment"), words("class_set"), as_is("seed"), as_is("finding")),
            *(as_is("title"), as_is("sentence"), as_is("try_this")),
        )
    return found


def time(key):
    """A time, or a dash."""
    return lambda row: seconds(key)(row) if row[key] else "–"


def ours(row):
    """A value whose interval stands in ``low`` and ``high``."""
    text = percent("value")(row)
    return f"{text}|{percent('low')(row)} to {percent('high')(row)}" if row["low"] else text


def flat(value, prefix=""):
    """A nested mapping as [[dotted key, value as text]]."""
    if not isinstance(value, dict):
        return [[prefix, str(value)]]
    return [
        pair
        for key, item in value.items()
        for pair in flat(item, f"{prefix}.{key}" if prefix else key)
    ]


def per_class(folder):
    """The table of classes: both models' tables joined by class name, worst first."""
    metrics = {row["class_name"]: row for row in rows_of(folder / "all_classes" / "metrics.csv")}
    seen = rows_of(folder.parents[2] / "data" / "class_sets" / f"{LIMITED}.csv")
    rows = []
    limited_rows = rows_of(folder / LIMITED / "comparison_all_classes.csv")
    for row, one in zip(limited_rows, seen, strict=True):
        both = [row[f"{which}_classes_precision_at_1"] for which in ("all", "limited")]
        drop = f"{100 * (float(both[0]) - float(both[1])):.1f}" if all(both) else "–"
        own = metrics[row["class_name"]]
        rows.append(
            [
                row["class_name"].strip(),
                "seen" if one["seen"] in ("1", "True") else "unseen",
                *(f"{100 * float(value):.1f}" if value else "–" for value in both),
                drop,
                own["test_samples"],
                own["train_samples"],
                both[0],
            ]
        )
    ordered = sorted(rows, key=lambda row: (row[-1] == "", float(row[-1] or 0)))
    return [row[:-1] for row in ordered]


def scalars(folder):
    found = []
    for model in MODELS:
        values = {}
        for file in ("summary.json", "scalars.json"):
            if (folder / model / file).exists():
                values |= yaml.safe_load((folder / model / file).read_text(encoding="utf-8"))
        for key, value in values.items():
            text = (
                f"{value:.4f}" if isinstance(value, float) else "–" if value is None else str(value)
            )
            found.append([str(SEED), model.replace("_", " "), key.replace("_", " "), text])
    return found


def report_tables(experiment):
    """{table of an experiment's page: the rows it must show}."""
    folder = experiment / f"seed{SEED}"
    recipe = yaml.safe_load((experiment / "config.yaml").read_text(encoding="utf-8"))["recipe"]
    found = {
        "classes1": per_class(folder),
        "health-table": expected(
            rows_of(experiment / "health.csv"),
            *(words("class_set"), as_is("seed"), as_is("title"), as_is("finding")),
            *(plain("value"), plain("threshold"), as_is("sentence")),
        ),
        "metrics-table": expected(
            rows_of(experiment / "summary.csv"),
            *(words("metric"), percent("value"), percent("low"), percent("high")),
            *(formatted("queries", "g"), formatted("classes", "g"), as_is("over")),
        ),
        f"enrolment-{LIMITED}": expected(
            rows_of(folder / LIMITED / "enrolment.csv"),
            *(words("model"), as_is("images_per_class"), words("method")),
            *(percent("unseen_accuracy"), percent("low"), percent("high")),
            *(percent("seen_accuracy"), percent("harmonic_mean"), as_is("unseen_queries")),
        ),
        "answers-table": expected(
            rows_of(experiment / "answers.csv"),
            *(words("answer"), words("class_set"), as_is("seed"), share("precision_at_1")),
            *(share("difference_to_nearest"), share("precision_at_1_seen_classes")),
            *(share("precision_at_1_unseen_classes"), share("harmonic_mean")),
            *(share("precision_drop_unseen_classes"), share("rejection_auroc")),
            as_is("parameters"),
        ),
        f"rejection-{LIMITED}": expected(
            rows_of(folder / LIMITED / "rejection.csv"),
            *(words("model"), percent("auroc"), percent("auroc_low"), percent("auroc_high")),
            *(percent("false_positive_rate_at_95_tpr"), plain("threshold_at_95_tpr")),
            *(as_is("known_queries"), as_is("unknown_queries")),
        ),
        "rejection-scores": expected(
            rows_of(experiment / "rejection_scores.csv"),
            *(words("class_set"), words("model"), as_is("score"), share("auroc")),
            *(share("false_positive_rate_at_95_tpr"), share("oscr_area")),
            *(share("risk_coverage_area"), words("calibrated_on"), percent("calibration_error")),
            percent("calibration_error_unseen_classes"),
        ),
        "rejection-thresholds": expected(
            rows_of(experiment / "rejection_thresholds.csv"),
            *(words("class_set"), words("model"), words("way"), percent("accepted_share")),
            *(plain("threshold"), share("accepted_unseen_classes")),
            *(percent("accepted_other_unseen_classes"), percent("accepted_seen_classes")),
            percent("accepted_unknown_classes"),
        ),
        "recipe-table": flat(recipe),
        "scalars": scalars(folder),
    }
    for number, model in enumerate(MODELS, start=1):
        found[f"confusions{number}"] = expected(
            rows_of(folder / model / "confusions.csv"),
            *(as_is("class_name"), as_is("nearest_class_name"), as_is("wrong")),
            *(as_is("queries"), percent("cost")),
        )
        found[f"report{number}"] = expected(
            rows_of(folder / model / "classification_report.csv"),
            *(as_is("class_name"), percent("precision"), percent("recall")),
            *(percent("f1_score"), as_is("support")),
        )
    return found


def index_charts(folder):
    curves, enrolment = rows_of(folder / "curves.csv"), own(rows_of(folder / "enrolment.csv"))
    enrolment = [row for row in enrolment if row["method"] == NEAREST]
    names = dict.fromkeys(row["experiment"] for row in curves)
    whole = [row for row in options(folder) if row["photographs"] == "all"]
    return {
        "curves": {
            f"{name}, {model.replace('_', ' ')}": points(
                [row for row in curves if (row["experiment"], row["class_set"]) == (name, model)],
                *("epoch", "test_accuracy"),
            )
            for name in names
            for model in MODELS
        },
        "enrolment": {
            name: points(
                [row for row in enrolment if row["experiment"] == name],
                *("images_per_class", "unseen_accuracy", "low", "high"),
                number=False,
            )
            for name in names
        },
        "verdict": {
            "trained, new classes enrolled": points(
                [row for row in whole if row["new_classes"] == "enrolled"],
                *("seconds_in_all", "harmonic_mean"),
            ),
            "trained, new classes retrained": points(
                [row for row in whole if row["new_classes"] == "retrained"],
                *("seconds_in_all", "harmonic_mean"),
            ),
            "Pareto front": points(
                sorted(
                    (row for row in whole if row["on_front"] == YES),
                    key=lambda row: float(row["seconds_in_all"]),
                ),
                *("seconds_in_all", "harmonic_mean"),
            ),
        },
    }


def report_charts(experiment):
    folder = experiment / f"seed{SEED}"
    curves = {model.replace("_", " "): rows_of(folder / model / "curves.csv") for model in MODELS}
    enrolment = rows_of(folder / LIMITED / "enrolment.csv")
    by_images = ("images_per_class", "unseen_accuracy")
    drawn = {}
    for method in dict.fromkeys(row["method"] for row in enrolment):
        rows = [row for row in enrolment if (row["model"], row["method"]) == (LIMITED, method)]
        ends = ("low", "high") if method == NEAREST else ()
        title = method.replace("_", " ")
        drawn[f"unseen classes, {title}"] = points(rows, *by_images, *ends, number=False)
        if method == NEAREST:
            drawn[f"seen classes, {title}"] = points(
                rows, "images_per_class", "seen_accuracy", number=False
            )
    oracle = [row for row in enrolment if (row["model"], row["method"]) == (MODELS[0], NEAREST)]
    drawn["unseen classes, model of all classes"] = points(oracle, *by_images, number=False)
    ways = rows_of(experiment / "answers_enrolment.csv")
    curve = rows_of(folder / LIMITED / "rejection_curve.csv")
    rates = ("false_positive_rate", "true_positive_rate")
    return {
        "accuracy": {name: points(rows, "epoch", "test_accuracy") for name, rows in curves.items()},
        "loss": {name: points(rows, "epoch", "train_loss") for name, rows in curves.items()},
        f"enrolment-{LIMITED}": drawn,
        f"answers-{LIMITED}": {
            way.replace("_", " "): points(
                [row for row in ways if row["answer"] == way],
                *(*by_images, "low", "high"),
                number=False,
            )
            for way in dict.fromkeys(row["answer"] for row in ways)
        },
        f"rejection-{LIMITED}": {
            "chance": ([0, 1], [0, 1], [], []),
            **{
                model.replace("_", " "): points(
                    [row for row in curve if row["model"] == model], *rates
                )
                for model in dict.fromkeys(row["model"] for row in curve)
            },
        },
    }


# The table of the verdict has an order of its own.
SORTED = {"verdict-table"}


def compare(shown, wanted):
    """{table: what is wrong}; empty if the page shows each table, with its numbers, and no other."""
    assert shown.keys() == wanted.keys()
    found = {
        name: wrong_cells(shown[name], wanted[name], ordered=name not in SORTED) for name in shown
    }
    return {name: wrong for name, wrong in found.items() if wrong}


@pytest.fixture(scope="module")
def read(chromium, study, report, index):
    """{"index", "report": (tables, charts) that the page shows}."""
    found = {}
    for which, path in (("index", index), ("report", report)):
        page = chromium.new_page()
        page.goto(path.as_uri())
        tables = {name: rows for name, rows in tables_of(page).items() if name not in ELSEWHERE}
        found[which] = tables, charts_of(page)
        page.close()
    return found


@pytest.fixture(scope="module")
def wanted(study):
    """{"index", "report": (tables, charts) that the page must show}."""
    comparison, experiment = study.folder / "comparison", study.folder / "experiments" / NAME
    return {
        "index": (index_tables(comparison), index_charts(comparison)),
        "report": (report_tables(experiment), report_charts(experiment)),
    }


@pytest.mark.parametrize("which", ["index", "report"])
def test_every_table_shows_its_numbers(read, wanted, which):
    """Would catch a number of another row or column, a wrong rounding, and a table that nobody compares."""
    shown = read[which][0]
    assert compare(shown, wanted[which][0]) == {}
    assert sum(len(rows) for rows in shown.values()) > 30


@pytest.mark.parametrize("which", ["index", "report"])
def test_every_chart_draws_its_numbers(read, wanted, which):
    """Would catch a line of another run, points in another order, a whisker of the wrong length, and a chart that
    nobody compares."""
    shown, right = read[which][1], wanted[which][1]
    assert shown.keys() == right.keys()
    assert {name: wrong_traces(shown[name], right[name]) for name in shown} == {
        name: [] for name in shown
    }


@pytest.mark.parametrize("which", ["index", "report"])
def test_one_wrong_number_is_found(read, wanted, which):
    """Would catch a comparison that finds nothing: each column of each table, and each trace, gets a wrong value."""
    tables, charts = read[which]
    for name, rows in tables.items():
        for column in range(len(rows[0])):
            broken = [list(row) for row in rows]
            broken[-1][column] += "1"
            assert compare({**tables, name: broken}, wanted[which][0]).keys() == {name}
    for name, traces in charts.items():
        for title, (xs, ys, lows, highs) in traces.items():
            broken = {**traces, title: (xs, [*ys[:-1], ys[-1] + 0.001], lows, highs)}
            assert wrong_traces(broken, wanted[which][1][name])


def test_first_screen_shows_its_numbers(visit, study, index):
    """Would catch a count in the head, or a point of accuracy against drop, that is not the table's."""
    page = visit(index)
    folder = study.folder / "comparison"
    rows = rows_of(folder / "experiments.csv")
    first = rows[0]
    facts = page.locator(".facts").inner_text()
    for text in (
        f"{first['classes']} classes, {first['unseen_classes']} of them unseen",
        f"{int(first['gallery']):,} images in the gallery, {int(first['queries']):,} queries",
        f"{first['seeds']} seed ",
        f"{len(rows)} experiments",
    ):
        assert text in facts.replace("photographs", "images")
    drops = {row["experiment"]: row for row in rows_of(folder / "metrics.csv", metric="precision_drop_unseen_classes")}  # fmt: skip
    accuracies = {row["experiment"]: row for row in rows_of(folder / "metrics.csv", metric="precision_at_1")}  # fmt: skip
    said = page.locator(".overview .point").all()
    assert len(said) == len(rows)
    for point in said:
        name = point.get_attribute("data-of")
        numbers = [
            "{} [{}, {}]".format(*(f"{100 * float(row[key]):.1f}".replace("-", "−") for key in ("value", "low", "high")))
            for row in (accuracies[name], drops[name])
        ]  # fmt: skip
        text = f"precision@1 {numbers[0]} %, drop {numbers[1]} points"
        assert point.get_attribute("title") == text
    assert not math.isnan(float(drops[NAME]["value"]))
