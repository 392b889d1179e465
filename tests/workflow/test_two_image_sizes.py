"""Two image sizes in one study, and figures of others that a configuration brings along."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
LARGE = "ArcFace_at_40_pixels"
RECALL = "recall_at_1_unseen_leave_one_out"
FIGURE = {"metric": f"limited_{RECALL}", "value": 0.5, "tolerance": 0.6, "source": "Somebody, 2020"}
PUBLISHED = {
    "figures": [
        {**FIGURE, "experiment": LARGE, "recipe": {"image_size": 40, "loss.kind": "arcface"}},
        {**FIGURE, "experiment": ARCFACE, "recipe": {"image_size": 40}},
    ]
}


def test_two_image_sizes_and_their_published_figures(project):
    """Would catch packs, heat maps or pages of the wrong size, or older runs that train again."""
    project.change_yaml(
        "config/experiments.yaml",
        lambda config: config["experiments"].update({LARGE: {"like": ARCFACE, "image_size": 40}}),
    )

    def change(config):
        config["only"].append(LARGE)
        config["published"] = PUBLISHED

    project.change_yaml("tests/workflow/tiny.yaml", change)
    targets = [f"results/tiny/{name}" for name in ("comparison/index.html", f"experiments/{LARGE}/report.html")]  # fmt: skip
    planned = project.planned(*targets)
    trained = [job for job in planned if job.startswith(("Train", "Pretrain"))]
    assert len(trained) == 2
    assert all(LARGE in job for job in trained)
    packs = [job.rpartition(" ")[2] for job in planned if job.startswith("Decode")]
    assert packs == ["shorter40", "shorter44"]
    project.snakemake(*targets)

    run = project.result(f"experiments/{LARGE}/seed42")
    model = torch.load(run / "limited_classes" / "model.pt", weights_only=True)
    assert model["recipe"]["image_size"] == 40
    with np.load(run / "heatmaps" / "heatmaps.npz") as maps:
        assert (int(maps["image_size"]), str(maps["resize"])) == (40, "shorter40")
    assert project.result("data/tiny_birds/pack_shorter40_thumbnails.webp").exists()
    table = pd.read_csv(project.result("comparison/experiments.csv"), index_col="experiment")
    assert table.loc[LARGE, "details"] == f"like {ARCFACE}: image size 40"
    assert (table["queries"] == table.loc[ARCFACE, "queries"]).all()

    verdicts = pd.read_csv(project.result("comparison/published.csv"), index_col="experiment")
    assert verdicts["verdict"].to_dict() == {LARGE: "holds", ARCFACE: "not comparable"}
    assert "image_size 40 (here 32)" in verdicts.loc[ARCFACE, "remark"]
    scalars = json.loads((run / "limited_classes" / "scalars.json").read_text())
    assert verdicts.loc[LARGE, "value"] == pytest.approx(scalars[RECALL], abs=1e-6)
    assert verdicts.loc[LARGE, "queries"] == 12  # All images of both unseen classes.
    page = project.result("comparison/index.html").read_text()
    assert "Somebody, 2020" in page
    assert "<h3>Deductions</h3>" not in page
