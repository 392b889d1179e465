"""Heat maps of the tiny study, as a page would read them."""

import pandas as pd

from dmlstudy.data.pack import Pack
from dmlstudy.explain.heatmap_files import load_heatmaps, overlay, seen_crop


def test_every_experiment_has_heat_maps_of_both_models(finished):
    """A model, query or box that a rule leaves out, or maps that no page could lay over their image."""
    folders = sorted(finished.result("experiments").glob("*/seed42/heatmaps"))
    assert len(folders) == 5
    for folder in folders:
        heatmaps = load_heatmaps(folder)
        pack = Pack(finished.result(f"data/tiny_birds/pack_{heatmaps.resize}"))
        table = heatmaps.table
        # Thirteen queries, fewer than were asked for; each with both models.
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
        # Where nothing speaks for a class a map has no heat, and no share of it.
        hot = heatmaps.maps.max(axis=(1, 2)) > 0
        assert hot.any()
        assert table["share_in_box"].notna().tolist() == hot.tolist()
        assert table.loc[hot, "share_in_box"].between(0, 1).all()
        row = table.iloc[0]
        image = seen_crop(pack, row["image_id"], heatmaps.image_size)
        assert overlay(image, heatmaps.maps[row["map"]]).shape == (32, 32, 3)
        assert heatmaps.figures["map"].tolist()[:3] == [
            "all_classes",
            "limited_classes",
            "untrained",
        ]
        figures = heatmaps.figures
        assert (figures["queries"] + figures["maps_without_heat"] == 13).all()
