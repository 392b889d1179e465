"""The tiny study from end to end."""

import csv
import json
import re
import subprocess
import sys

import pandas as pd
import torch
import yaml
from sklearn.metrics import accuracy_score

EXPERIMENTS = [
    "EPSHN_cosine_resnet18_sgd_aug",
    "EPSHN_cosine_resnet18_classifier_sgd_aug",
    "EPSHN_cosine_resnet18+1dBN_sgd_aug",
    "ArcFace_cosine_resnet18_sgd_aug",
    "other_species_resnet18",
]


def test_every_file_of_the_design_is_there(finished):
    """Would catch a rule that does not make all its files, or writes them elsewhere."""
    for name in EXPERIMENTS:
        folder = finished.result(f"experiments/{name}")
        assert yaml.safe_load((folder / "config.yaml").read_text())["experiment"] == name
        assert (folder / "report.html").stat().st_size > 10_000
        assert len(pd.read_csv(folder / "health.csv")) > 3
        for class_set in ("all_classes", "limited_classes"):
            run = folder / "seed42" / class_set
            files = ("model.pt", "curves.csv", "embeddings.npz", "queries.csv", "metrics.csv")
            for file in (*files, "confusions.csv", "map.csv"):
                assert (run / file).stat().st_size
            if class_set != "all_classes":
                for file in (
                    "neighbours.csv",
                    "enrolment.csv",
                    "rejection.csv",
                    "rejection_curve.csv",
                ):
                    assert (run / file).stat().st_size
            assert not (run / "state").exists()
        limited = folder / "seed42" / "limited_classes"
        for part, rows in (("unseen", 2), ("seen", 4), ("all", 6)):
            assert len(pd.read_csv(limited / f"comparison_{part}_classes.csv")) == rows
        assert set(json.loads((limited / "scalars.json").read_text())) == {
            "precision_drop_unseen_classes",
            "precision_drop_seen_classes",
            "precision_drop_all_classes",
            "all_classes_precision_at_1_seen_classes",
            "all_classes_precision_at_1_unseen_classes",
            "all_classes_harmonic_mean",
            "rejection_auroc",
            "rejection_false_positive_rate_at_95_tpr",
            *(f"recall_at_{k}_unseen_leave_one_out" for k in (1, 2, 4, 8)),
            "data",
        }


def test_table_has_a_row_per_experiment_in_order_and_no_costs(finished):
    """Would catch rows that are missing or in another order, or costs in the table."""
    with open(finished.result("comparison/experiments.csv")) as stream:
        rows = list(csv.DictReader(stream))
    assert [row["experiment"] for row in rows] == EXPERIMENTS
    assert list(rows[0])[:2] == ["experiment", "block"]
    assert {row["block"] for row in rows} == {"published"}
    assert rows[3]["like"] == "EPSHN_cosine_resnet18_sgd_aug"
    assert "seed 42" in rows[3]["deduction"]
    assert not {"seconds", "images_per_second", "device"} & set(rows[0])
    assert len(pd.read_csv(finished.result("comparison/costs.csv"))) == 2 * len(EXPERIMENTS)


def test_rejection_is_scored_for_each_run_and_shown(finished):
    """Would catch a study without tables of scores and thresholds, other figures in them, or pages without."""
    scores = pd.read_csv(finished.result("comparison/rejection_scores.csv"))
    thresholds = pd.read_csv(finished.result("comparison/rejection_thresholds.csv"))
    names = ["similarity", "margin", "energy", "mahalanobis"]
    assert scores["experiment"].drop_duplicates().tolist() == EXPERIMENTS
    assert scores["score"].tolist() == names * 2 * len(EXPERIMENTS)
    assert len(thresholds) == 2 * 2 * 3 * len(EXPERIMENTS)
    for name, rows in scores[scores["score"] == "similarity"].groupby("experiment"):
        folder = finished.result(f"experiments/{name}/seed42/limited_classes")
        old = pd.read_csv(folder / "rejection.csv").set_index("model")
        rows = rows.set_index("model")
        for key in ("auroc", "auroc_low", "auroc_high", "false_positive_rate_at_95_tpr"):
            pd.testing.assert_series_equal(rows[key], old[key], atol=1e-6)
        untrained = name == "other_species_resnet18"
        assert rows.loc["limited_classes", "calibration_images"] == (23 if untrained else 8)
    for page in ("comparison/index.html", f"experiments/{EXPERIMENTS[0]}/report.html"):
        text = finished.result(page).read_text()
        assert 'id="rejection-scores"' in text
        assert 'id="rejection-thresholds"' in text


def test_metrics_follow_from_the_queries(finished):
    """Would catch a summary, table or page that computes a metric in its own way."""
    table = pd.read_csv(finished.result("comparison/experiments.csv")).set_index("experiment")
    for name in EXPERIMENTS:
        run = finished.result(f"experiments/{name}/seed42/all_classes")
        queries = pd.read_csv(run / "queries.csv")
        accuracy = accuracy_score(queries["class_id"], queries["nearest_class_id"])
        summary = json.loads((run / "summary.json").read_text())
        assert abs(summary["precision_at_1"] - accuracy) < 1e-12
        assert abs(table.loc[name, "precision_at_1"] - accuracy) < 1e-6
        assert abs(pd.read_csv(run / "curves.csv")["test_accuracy"].iloc[-1] - accuracy) < 1e-6


def test_model_file_is_enough_to_use_it_elsewhere(finished):
    """Would catch a model file that lacks what its use needs, or that needs unpickling."""
    run = finished.result("experiments/ArcFace_cosine_resnet18_sgd_aug/seed42/limited_classes")
    stored = torch.load(run / "model.pt", weights_only=True)
    assert stored["class_ids"] == [0, 1, 2, 3]
    assert len(stored["class_names"]) == 6
    assert stored["recipe"]["loss"]["kind"] == "arcface"
    assert stored["test_resize"] == "shorter32"
    assert stored["loss"]["W"].shape == (128, 4)


def test_demo_data_are_called_synthetic_everywhere(finished):
    """Would catch drawn birds that pass for real images, or features that pass for ImageNet's."""
    pages = [finished.result("comparison/index.html")]
    pages += [finished.result(f"experiments/{name}/report.html") for name in EXPERIMENTS]
    for page in pages:
        text = page.read_text()
        assert "All images are synthetic" in text
    index = pages[0].read_text()
    assert "pretrained on other synthetic species" in index
    assert "imagenet" not in index.lower()


def test_pages_need_nothing_else(finished):
    """Would catch a page that loads something from the network or from another file."""
    for page in (
        "comparison/index.html",
        "experiments/ArcFace_cosine_resnet18_sgd_aug/report.html",
    ):
        text = finished.result(page).read_text()
        for tag in ("<script src", "<link", "@import", '<img src="http'):
            assert tag not in text


def test_same_seed_same_bytes_whatever_the_cores_and_the_order(finished, fresh):
    """Would catch sums that depend on the granted cores, or seeds on the order of jobs."""
    # One core, and the targets one by one, the last first.
    for name in reversed(EXPERIMENTS):
        fresh.snakemake(f"results/tiny/experiments/{name}/summary.csv", cores=1)
    report = "experiments/ArcFace_cosine_resnet18_sgd_aug/report.html"
    fresh.snakemake("results/tiny/comparison/index.html", f"results/tiny/{report}", cores=1)
    run = "experiments/ArcFace_cosine_resnet18_sgd_aug/seed42/limited_classes"
    same = [
        f"comparison/{name}.csv"
        for name in ("experiments", "curves", "enrolment", "metrics", "verdict")
    ]
    same += ["comparison/plot_drop.html", report]
    for name in (*same, f"{run}/embeddings.npz", f"{run}/map.csv", f"{run}/neighbours.csv"):
        assert fresh.result(name).read_bytes() == finished.result(name).read_bytes(), name
    # The cost of a run differs each time; it is in two sections of the page.
    costs = re.compile(r'<section id="(costs|verdict)">.*?</section>', re.DOTALL)
    pages = [one.result("comparison/index.html").read_text() for one in (fresh, finished)]
    assert all(len(costs.findall(page)) == 2 for page in pages)
    assert costs.sub("", pages[0]) == costs.sub("", pages[1])


def test_other_data_in_the_same_results_folder_are_refused(project):
    """Would catch results of two splits in one table."""
    project.edit("tests/workflow/tiny.yaml", "test_share: 0.34", "test_share: 0.5")
    text = project.snakemake("--dry-run", ok=False)
    assert "results/tiny/study.json" in text
    assert "test_share" in text
    assert "results_dir" in text


def test_evaluation_needs_no_torch(project):
    """Would catch seconds for importing torch in each of hundreds of evaluations."""
    folder = project.result("experiments/ArcFace_cosine_resnet18_sgd_aug")
    data = project.result("data/tiny_birds")
    arguments = ["evaluate.py", "--experiment", folder, "--seeds", 42, "--data", "x"]
    arguments += ["--manifest", data / "manifest.csv", "--split", data / "split.csv"]
    arguments += ["--class-sets", *sorted((data / "class_sets").glob("*.csv"))]
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[str(item) for item in arguments]}\n"
        "sys.path.insert(0, 'workflow/scripts')\n"
        "runpy.run_path('workflow/scripts/evaluate.py', run_name='__main__')\n"
        "sys.exit('torch' in sys.modules)"
    )
    before = (folder / "summary.csv").read_bytes()
    subprocess.run([sys.executable, "-c", program], cwd=project.folder, check=True)
    assert (folder / "summary.csv").read_bytes() == before


def test_evaluation_again_trains_nothing(finished):
    """Would catch an evaluation target that trains, or that leaves an experiment out."""
    planned = finished.planned("evaluation", "--forcerun", "evaluate")
    jobs = ("Evaluate", "Check the health of")
    expected = [f"{job} {name}" for name in EXPERIMENTS for job in jobs]
    expected += ["Compare all experiments"]
    assert planned == sorted([*expected, "Every table of the evaluation"])


def test_demo_is_not_compared_with_published_metrics(finished):
    """Would catch verdicts on drawn birds."""
    for name in ("published.csv", "published_deductions.csv"):
        table = pd.read_csv(finished.result(f"comparison/{name}"))
        verdicts = table["verdict" if name == "published.csv" else "direction"]
        assert set(verdicts) == {"not comparable"}
    page = finished.result("comparison/index.html").read_text()
    assert "the data set is tiny_birds, not the published archive" in page
    assert "lies within ± 2 points" in page


def test_several_seeds_and_draws_give_mean_and_spread(project):
    """Would catch a second seed or draw that replaces the first, or a wrong spread."""
    project.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: (
            config["protocol"].update(seeds=[42, 43], unseen_draws=1),
            config.update(only=["EPSHN_cosine_resnet18_sgd_aug"]),
        ),
    )
    planned = project.planned()
    assert "Train EPSHN_cosine_resnet18_sgd_aug (all_classes, seed 43)" in planned
    trained = [job for job in planned if job.startswith("Train") and "seed 42" in job]
    assert trained
    assert all("(limited_classes_1, seed 42)" in job for job in trained)
    project.snakemake()
    row = pd.read_csv(project.result("comparison/experiments.csv")).iloc[0]
    precisions = []
    for seed in (42, 43):
        run = project.result(f"experiments/EPSHN_cosine_resnet18_sgd_aug/seed{seed}/all_classes")
        precisions.append(json.loads((run / "summary.json").read_text())["precision_at_1"])
    assert row["seeds"] == 2
    assert abs(row["precision_at_1"] - sum(precisions) / 2) < 1e-6
    spread = abs(precisions[0] - precisions[1]) / 2**0.5
    assert abs(row["precision_at_1_spread"] - spread) < 1e-6
    assert row["unseen_draws"] == 2
    drops = []
    for seed in (42, 43):
        for class_set in ("limited_classes", "limited_classes_1"):
            run = project.result(
                f"experiments/EPSHN_cosine_resnet18_sgd_aug/seed{seed}/{class_set}"
            )
            scalars = json.loads((run / "scalars.json").read_text())
            drops.append(scalars["precision_drop_unseen_classes"])
    assert abs(row["precision_drop_unseen_classes"] - sum(drops) / 4) < 1e-6
    differences = pd.read_csv(project.result("comparison/differences.csv"))
    untrained = differences[differences["experiment"] == "other_species_resnet18"].iloc[0]
    assert untrained["seeds"] == 2
    assert untrained["seeds_low"] <= untrained["difference"] <= untrained["seeds_high"]
    assert "2 seeds" in row["deduction"]


def time_spent(folder, since=0):
    program = folder / "workflow" / "scripts" / "time_spent.py"
    command = [sys.executable, program, "--since", str(since)]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True)
    return done.stdout


def test_time_spent_counts_each_job_once(finished):
    """Would catch jobs counted once per output, or records of Snakemake that cannot be read."""
    text = time_spent(finished.folder)
    counted = {rule: int(jobs) for rule, jobs in re.findall(r"^ +(\w+) +(\d+) jobs", text, re.M)}
    logs = finished.result("logs")
    for rule in ("train", "evaluate", "map"):
        made = {"map": "map_embeddings"}.get(rule, rule)
        assert counted[made] == len(list((logs / rule).iterdir()))
    assert f" in {sum(counted.values())} jobs" in text
    seconds = dict(re.findall(r"^ +(\w+) +\d+ jobs +(\d+) s", text, re.M))
    costs = pd.read_csv(finished.result("comparison/costs.csv"))
    assert int(seconds["train"]) > costs["total_seconds"].sum() - 1


def test_time_spent_of_a_run_that_had_nothing_to_do(finished):
    """Would catch the time of an earlier run reported for this one."""
    assert time_spent(finished.folder, since=4e9) == "no job ran: all results were up to date\n"
