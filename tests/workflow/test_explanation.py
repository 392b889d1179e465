"""Heat maps of the tiny study, as pages read them."""

import pandas as pd

from dmlstudy.data.pack import Pack
from dmlstudy.explain.heatmap_files import load_heatmaps, model_crop, overlay


def test_every_experiment_has_heat_maps_of_both_models(finished):
    """Would catch a model, query or box without heat maps, or maps that do not fit their images."""
    folders = sorted(finished.result("experiments").glob("*/seed42/heatmaps"))
    assert len(folders) == 5
    for folder in folders:
        heatmaps = load_heatmaps(folder)
        pack = Pack(finished.result(f"data/tiny_birds/pack_{heatmaps.resize}"))
        table = heatmaps.table
        # There are thirteen queries, fewer than requested; each has maps of both models.
        shown = table.groupby("class_set")["image_id"].apply(set)
        assert list(shown.index) == ["all_classes", "limited_classes"]
        assert shown.iloc[0] == shown.iloc[1]
        assert len(shown.iloc[0]) == 13
        for class_set, mine in table.groupby("class_set"):
            answers = pd.read_csv(folder.parent / class_set / "queries.csv").set_index("image_id")
            wrong = mine[mine["which"] == "winning_class"].set_index("image_id")
            assert set(wrong.index) == set(answers.index[answers["correct"] == 0])
            assert (wrong["class_id"] == answers["nearest_class_id"].loc[wrong.index]).all()
        assert set(table.loc[table["unseen"] == 1, "class_set"]) == {"limited_classes"}
        # A map has no heat if nothing supports its class; then it has no share either.
        hot = heatmaps.maps.max(axis=(1, 2)) > 0
        assert hot.any()
        assert table["share_in_box"].notna().tolist() == hot.tolist()
        assert table.loc[hot, "share_in_box"].between(0, 1).all()
        row = table.iloc[0]
        crop = model_crop(pack, row["image_id"], heatmaps.image_size)
        assert overlay(crop, heatmaps.maps[row["map"]]).shape == (32, 32, 3)
        assert heatmaps.localisation["map"].tolist()[:3] == [
            "all_classes",
            "limited_classes",
            "untrained",
        ]
        localisation = heatmaps.localisation
        assert (localisation["queries"] + localisation["maps_without_heat"] == 13).all()
