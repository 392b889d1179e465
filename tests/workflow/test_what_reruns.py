"""What runs again when: a test per row of the table in docs/reruns.md, by dry runs."""

import os
import re

ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"


def own_jobs(name):
    """All jobs of one experiment, and what compares it with the others."""
    return sorted(
        [
            f"Train {name} (all_classes, seed 42)",
            f"Train {name} (limited_classes, seed 42)",
            f"Evaluate {name}",
            f"Answer in several ways by {name}",
            f"Score the rejection of {name}",
            f"Check the health of {name}",
            f"Map the embeddings of {name}",
            f"Build the report of {name}",
            f"Track {name} (limited_classes, seed 42)",
            f"Draw heat maps of {name} (seed 42)",
            "Compare all experiments",
            "Build the page that compares all experiments",
        ]
    )


def test_nothing_changed_nothing_runs(project):
    """A finished study, moved to another folder, that runs again."""
    assert project.planned() == []


def test_new_experiment_runs_its_own_jobs_and_the_comparison(project):
    """Experiment 17 that retrains the sixteen before it."""

    def add(config):
        config["experiments"]["Wide"] = {
            "like": "EPSHN_cosine_resnet18_sgd_aug",
            "head": {"embedding_dim": 256},
        }

    project.change_yaml("config/experiments.yaml", add)
    project.change_yaml("tests/workflow/tiny.yaml", lambda config: config["only"].append("Wide"))
    more = ["Write down the recipe of Wide", "Measure the models"]
    assert project.planned() == sorted([*own_jobs("Wide"), *more])


def test_new_loss_beside_the_others_runs_nothing(project):
    """A line in the registry that counts as a change of every training."""
    scripts = project.folder / "workflow/scripts/dmlstudy"
    (scripts / "compute/losses/contrastive.py").write_text(
        "from typing import Annotated\n\n"
        "from pytorch_metric_learning.losses import ContrastiveLoss\n\n\n"
        "def build(num_classes, embedding_dim, *, neg_margin: Annotated[float, '> 0', 'margin'] = 1.0):\n"
        "    return ContrastiveLoss(neg_margin=neg_margin)\n"
    )
    project.edit(
        "workflow/scripts/dmlstudy/core/registry.py",
        '"epshn": "dmlstudy.compute.losses.epshn",',
        '"epshn": "dmlstudy.compute.losses.epshn", "contrastive": "dmlstudy.compute.losses.contrastive",',
    )
    assert project.planned() == []


def test_new_head_or_initializer_runs_nothing(project):
    """The same for heads and for entries of initializers."""
    scripts = project.folder / "workflow/scripts/dmlstudy"
    (scripts / "compute/heads/wide.py").write_text(
        "from typing import Annotated\n\nfrom torch import nn\n\n\n"
        "def build(in_features, *, embedding_dim: Annotated[int, '> 1', 'width'] = 1024):\n"
        "    return nn.Linear(in_features, embedding_dim)\n"
    )
    project.edit(
        "workflow/scripts/dmlstudy/core/registry.py",
        '"linear": "dmlstudy.compute.heads.linear",',
        '"linear": "dmlstudy.compute.heads.linear", "wide": "dmlstudy.compute.heads.wide",',
    )
    project.change_yaml(
        "config/config.yaml",
        lambda config: config["initializers"].update(
            another={**config["initializers"]["classifier"], "label": "another"}
        ),
    )
    assert project.planned() == []


def test_comment_or_docstring_runs_nothing(project):
    """Would catch a comment that retrains everything."""
    for name in (
        "train/trainer.py",
        "compute/losses/arcface.py",
        "evaluate/search.py",
        "pages/rendering.py",
        "data/birds.py",
    ):
        path = project.folder / "workflow/scripts/dmlstudy" / name
        path.write_text(path.read_text().replace('"""', '"""Said anew: ', 1) + "\n# a remark\n")
    for name in ("train.py", "evaluate.py", "report.py"):
        path = project.folder / "workflow/scripts" / name
        path.write_text("# a remark\n" + path.read_text())
    assert project.planned() == []


def test_reordered_keys_run_nothing(project):
    """Params that remember the order in which somebody wrote them."""

    def reorder(value):
        if isinstance(value, dict):
            for key in reversed(list(value)):
                reorder(value[key])
                # The order of experiments is the order of the table; theirs stays.
                if "EPSHN_euclidean_resnet18" not in value:
                    value[key] = value.pop(key)

    for name in ("config/config.yaml", "config/experiments.yaml", "tests/workflow/tiny.yaml"):
        project.change_yaml(name, reorder)
    assert project.planned() == []


def test_touched_files_run_nothing(project):
    """An archive, image, pack, table or program with a new date and the old content."""
    for folder in ("results", "workflow", "config"):
        for path in (project.folder / folder).rglob("*"):
            if path.is_file():
                os.utime(path)
    assert project.planned() == []


def test_edited_loss_runs_its_experiments_only(project):
    """An edit of ArcFace that retrains the others, or that nobody notices."""
    project.edit(
        "workflow/scripts/dmlstudy/compute/losses/arcface.py", "margin=margin", "margin=2 * margin"
    )
    assert project.planned() == own_jobs(ARCFACE)


def test_edited_training_runs_every_training(project):
    """Code that all trainings share and that no digest covers."""
    project.edit(
        "workflow/scripts/dmlstudy/train/trainer.py",
        "optimizer.zero_grad(set_to_none=True)",
        "optimizer.zero_grad(set_to_none=False)",
    )
    trained = [job for job in project.planned() if job.startswith(("Train", "Pretrain"))]
    assert len(trained) == 10 + 3


def test_edited_page_runs_pages_only(project):
    """A page whose looks cost a training."""
    project.edit(
        "workflow/scripts/dmlstudy/pages/templates/page.css",
        "--pico-font-size: 87.5%",
        "--pico-font-size: 88%",
    )
    planned = project.planned()
    assert len(planned) == 6
    assert all(re.match("Build the (report|page)", job) for job in planned)


def test_edited_evaluation_trains_nothing(project):
    """Evaluation that cannot be done again from stored embeddings."""
    project.edit(
        "workflow/scripts/dmlstudy/evaluate/evaluation.py", "zero_division=0", "zero_division=1"
    )
    planned = project.planned()
    assert len([job for job in planned if job.startswith("Evaluate")]) == 5
    assert not [job for job in planned if job.startswith(("Train", "Pretrain", "Decode"))]


def test_changed_threshold_of_health_runs_tables_and_pages(project):
    """A threshold that evaluates or trains again, or that nobody notices."""
    project.edit(
        "workflow/scripts/dmlstudy/evaluate/health.py", "FEWEST_STEPS = 20", "FEWEST_STEPS = 1"
    )
    planned = project.planned()
    checked = [job for job in planned if job.startswith("Check the health")]
    assert len(checked) == 5
    assert all(job.startswith(("Check", "Compare all", "Build")) for job in planned)


def test_changed_learning_rate_runs_that_experiment(project):
    """A number of the protocol that is not part of what makes a run."""
    project.edit("config/experiments.yaml", "loss: {kind: arcface, margin: 28.6, scale: 64}",
                 "loss: {kind: arcface, margin: 28.6, scale: 64}\n    optimizer: {lr: 0.002}")  # fmt: skip
    assert project.planned() == sorted([*own_jobs(ARCFACE), f"Write down the recipe of {ARCFACE}"])


def test_storing_state_less_often_trains_nothing(project):
    """A number of the machine's, not of the study's, that is part of what makes a run."""
    project.change_yaml(
        "tests/workflow/tiny.yaml", lambda config: config.update(checkpoint_every=7)
    )
    assert project.planned() == []


def test_other_unseen_classes_train_at_once(project):
    """Limited models of other classes that are only trained when the workflow is started again."""
    project.edit("tests/workflow/tiny.yaml", "unseen_classes: 2", "unseen_classes: 3")
    planned = project.planned()
    for name in (ARCFACE, "EPSHN_cosine_resnet18_sgd_aug"):
        assert f"Train {name} (limited_classes, seed 42)" in planned
        assert f"Evaluate {name}" in planned
    assert "Pretrain resnet18: classifier (limited_classes, seed 42)" in planned
    assert not [job for job in planned if job.startswith("Train") and "(all_classes" in job]


def test_further_draw_of_unseen_classes_trains_its_models_only(project):
    """One more draw that trains again what is there."""
    project.change_yaml(
        "tests/workflow/tiny.yaml", lambda config: config["protocol"].update(unseen_draws=1)
    )
    planned = project.planned()
    trained = [job for job in planned if job.startswith(("Train", "Pretrain"))]
    assert len(trained) == 5 + 1
    assert all("(limited_classes_1, " in job for job in trained)
    assert f"Evaluate {ARCFACE}" in planned


def test_flag_accepts_old_results_all_the_same(project):
    """Would catch that the flag of docs/reruns.md, which keeps old results, no longer does."""
    project.edit(
        "workflow/scripts/dmlstudy/compute/losses/arcface.py", "margin=margin", "margin=2 * margin"
    )
    assert project.planned("--rerun-triggers", "mtime") == []


def test_folder_of_photos_touched_and_changed(project, tmp_path):
    """A user's folder: a touch that runs everything again, or a changed photo that nobody notices."""
    source = next(project.result("data/tiny_birds/images").glob("*/images"))
    photos = tmp_path / "photos"
    source.rename(photos)
    project.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: (
            config.update(results_dir="results/photos"),
            config["dataset"].update(
                name="photos", format="folders", drawn=None, source=str(photos)
            ),
        ),
    )
    target = "results/photos/data/photos/pack_shorter32/pixels.bin"
    project.snakemake(target)
    assert project.planned(target) == []
    for path in photos.rglob("*"):
        os.utime(path)
    assert project.planned(target) == []
    images = sorted(photos.rglob("*.jpg"))
    images[0].write_bytes(images[1].read_bytes())
    assert project.planned(target) == [
        "Decode photos once, resized as shorter32",
        "List the images of photos",
    ]


def test_both_entry_points_plan_the_same_jobs(fresh):
    """A Snakefile for the workflow catalog that plans nothing and ends with success."""
    planned = fresh.planned()
    assert len(planned) > 40
    assert fresh.planned(snakefile="workflow/Snakefile") == planned


def test_published_study_plans_all_experiments(fresh):
    """A default configuration that no longer plans the published study."""
    planned = fresh.planned("--resources", "gpu=1", config=None)
    assert len([job for job in planned if job.startswith("Train")]) == 18 * 2
    assert len([job for job in planned if job.startswith("Pretrain")]) == 4
    assert len([job for job in planned if job.startswith("Get weights of resnet")]) == 2
    assert [job for job in planned if job.startswith("Download https://data.caltech.edu")]


def test_one_report_trains_what_its_page_compares(fresh):
    """A single experiment's page that trains the whole study, or an experiment that it says nothing of."""
    planned = fresh.planned(f"results/tiny/experiments/{ARCFACE}/report.html")
    trained = [job for job in planned if job.startswith("Train")]
    # The page compares it with the baseline, which it is like, with the classifier, if there is one, and with the
    # features that it starts from, which the untrained row only embeds.
    assert sorted(trained) == sorted(
        f"Train {name} ({class_set}, seed 42)"
        for name in (ARCFACE, BASELINE, "other_species_resnet18")
        for class_set in ("all_classes", "limited_classes")
    )


def test_demo_plans_the_whole_study(fresh):
    """A demo that leaves experiments out, or calls its features ImageNet's."""
    planned = fresh.planned(config="config/demo.yaml")
    assert len([job for job in planned if job.startswith("Train")]) == 18 * 2
    assert not [job for job in planned if "imagenet" in job.lower()]
    assert not [job for job in planned if job.startswith(("Download", "Get"))]
