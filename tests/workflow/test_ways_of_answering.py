"""Ways of answering of the tiny study: tables, pages, and what runs again."""

import subprocess
import sys

import pandas as pd
import pytest

from dmlstudy.core.canonical import canonical_json
from dmlstudy.plan.evaluation_settings import ANSWERS
from dmlstudy.plan.recipes import complete_answers

ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
UNTRAINED = "other_species_resnet18"
COMMON = ["precision_at_1", "precision_at_1_low", "precision_at_1_high"]


def answers_of(study, table="answers", experiment=ARCFACE):
    return pd.read_csv(study.result(f"experiments/{experiment}/{table}.csv"))


def test_nearest_row_is_the_studys_own(finished):
    """Would catch a way of answering that counts, resamples or draws in another way than the study."""
    table = answers_of(finished).set_index(["class_set", "answer"])
    summary = pd.read_csv(finished.result(f"experiments/{ARCFACE}/summary.csv")).set_index("metric")
    ends = ["value", "low", "high"]
    full, limited = (table.loc[name, "nearest"] for name in ("all_classes", "limited_classes"))
    assert full[COMMON].tolist() == pytest.approx(summary.loc["precision_at_1", ends].tolist())
    for metric in ("precision_at_1_seen_classes", "precision_at_1_unseen_classes", "harmonic_mean"):
        found = limited[[metric, f"{metric}_low", f"{metric}_high"]].tolist()
        assert found == pytest.approx(summary.loc[f"limited_{metric}", ends].tolist())
    drop = "precision_drop_unseen_classes"
    found = limited[[drop, f"{drop}_low", f"{drop}_high"]].tolist()
    assert found == pytest.approx(summary.loc[drop, ends].tolist())
    rejection = pd.read_csv(
        finished.result(f"experiments/{ARCFACE}/seed42/limited_classes/rejection.csv")
    ).set_index("model")
    assert limited["rejection_auroc"] == pytest.approx(rejection.loc["limited_classes", "auroc"])
    assert (table.xs("nearest", level="answer")["difference_to_nearest"] == 0).all()


@pytest.mark.parametrize(
    ("answer", "method"), [("nearest", "nearest_neighbour"), ("class_mean", "class_mean")]
)
def test_enrolled_images_are_the_studys_own(finished, answer, method):
    """Would catch other draws, or images that are enrolled twice."""
    ours = answers_of(finished, "answers_enrolment")
    ours = ours[ours["answer"] == answer].reset_index(drop=True)
    own = pd.read_csv(
        finished.result(f"experiments/{ARCFACE}/seed42/limited_classes/enrolment.csv")
    )
    own = own[(own["model"] == "limited_classes") & (own["method"] == method)].reset_index()
    for column in ("images_per_class", "unseen_accuracy", "low", "high", "spread", "seen_accuracy"):
        assert ours[column].tolist() == pytest.approx(own[column].tolist(), nan_ok=True), column


def test_every_way_has_a_row_everywhere(finished):
    """Would catch a way that a table or page leaves out, or times in a table that must repeat."""
    every = pd.read_csv(finished.result("comparison/answers.csv"))
    for (_, _), rows in every.groupby(["experiment", "class_set"]):
        # Untrained rows and a loss of pairs have no vector per class.
        left_out = [] if rows["experiment"].iat[0] == ARCFACE else ["imprinted_classifier"]
        assert rows["answer"].tolist() == [name for name in ANSWERS if name not in left_out]
    assert not [column for column in every if "seconds" in column]
    costs = pd.read_csv(finished.result("comparison/answers_costs.csv"))
    assert set(costs["answer"]) == set(ANSWERS)
    for page in (f"experiments/{ARCFACE}/report.html", "comparison/index.html"):
        text = finished.result(page).read_text()
        assert 'id="answers-table"' in text
        assert "random projection ridge" in text


def test_the_largest_size_is_the_whole_gallery(finished):
    """Would catch classes that were added, but not all of their images."""
    table = answers_of(finished)
    table = table[table["class_set"] == "limited_classes"].set_index("answer")
    curve = answers_of(finished, "answers_enrolment")
    last = curve[curve["images_per_class"].astype(str) == "all"].set_index("answer")
    for answer in ANSWERS:
        metric = table.loc[answer, "precision_at_1_unseen_classes"]
        assert last.loc[answer, "unseen_accuracy"] == pytest.approx(metric)


def test_fewer_ways_train_nothing(project):
    """Would catch a way of answering that evaluates or trains again."""
    project.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: config.update(evaluation={"answers": [{"kind": "class_mean"}]}),
    )
    planned = project.planned()
    assert len([job for job in planned if job.startswith("Answer")]) == 5
    assert all(job.startswith(("Answer", "Compare all", "Build")) for job in planned)
    project.snakemake(f"results/tiny/experiments/{ARCFACE}/answers.csv")
    assert answers_of(project)["answer"].unique().tolist() == ["nearest", "class_mean"]


def test_the_program_repeats_to_the_byte_and_needs_no_torch(project):
    """Would catch a time, or an order of threads, in a table that must repeat."""
    folder = project.result(f"experiments/{UNTRAINED}")
    data = project.result("data/tiny_birds")
    tables = ("answers.csv", "answers_enrolment.csv")
    before = [(folder / name).read_bytes() for name in tables]
    arguments = [
        "answer.py",
        "--experiment",
        folder,
        "--seeds",
        42,
        "--data",
        "tiny_birds (synthetic)",
    ]
    arguments += ["--manifest", data / "manifest.csv", "--split", data / "split.csv"]
    arguments += ["--class-sets", *sorted((data / "class_sets").glob("*.csv")), "--out", folder]
    pieces = complete_answers([{"kind": kind} for kind in ANSWERS], ())
    arguments += ["--answers", canonical_json(pieces)]
    program = (
        "import runpy, sys\n"
        f"sys.argv = {[str(item) for item in arguments]}\n"
        "sys.path.insert(0, 'workflow/scripts')\n"
        "runpy.run_path('workflow/scripts/answer.py', run_name='__main__')\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=project.folder, check=True)
    assert [(folder / name).read_bytes() for name in tables] == before
