"""Another threshold than that of the index, and heat maps."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_service import photographs_of, sent, stored

from dmlstudy.core.files import read_json
from dmlstudy.evaluate.thresholds import HELD_OUT
from dmlstudy.explain.heatmaps import choose_layer, heat_maps
from dmlstudy.use.index_files import read_gallery
from dmlstudy.use.trained_model import TrainedModel


@pytest.fixture
def judged(run):
    """The run, whose study judged two thresholds."""
    path = run.parents[1] / "rejection_thresholds.csv"
    index = read_json(run / "index" / "index.json")
    row = pd.read_csv(path).head(1).assign(threshold=index["threshold"]["similarity"])
    # Means over two limited models of the seed; other rows are of other models, ways and seeds.
    low = [row.assign(accepted_share=0.99, threshold=value) for value in (-0.6, -0.4)]
    other = low[0].assign(threshold=9)
    others = [other.assign(model="x"), other.assign(way="own_images"), other.assign(seed=1)]
    pd.concat([row, *low, *others]).to_csv(path, index=False)
    return run


def test_another_threshold_is_chosen(serve, judged):
    """Would catch a choice without effect, a mean over the rows of others, and one that cannot be undone."""
    service = serve()
    points = service.get("/api/thresholds").json()["thresholds"]
    assert [(one["accepted_share"], one["in_use"]) for one in points] == [
        (0.9, True),
        (0.99, False),
    ]
    assert points[1]["similarity"] == pytest.approx(-0.5)
    assert points[1]["rates"]["not_enrolled"] == pytest.approx(0.75)
    assert "75 %" in points[1]["in_words"]
    strange = photographs_of(judged, 4)[:1]
    (before,) = service.name(strange)
    assert not before["known"]
    change = service.client.put("/api/threshold", json={"accepted_share": 0.99})
    assert change.status_code == 200, change.text
    assert change.json()["what"] == "threshold for 99 % chosen"
    (after,) = service.name(strange)
    assert after["known"]
    assert after["threshold"] == pytest.approx(-0.5)
    threshold = stored(judged)["threshold"]
    assert (threshold["accepted_share"], threshold["way"]) == (0.99, HELD_OUT)
    status = service.get("/api/status").json()
    assert status["threshold"] == pytest.approx(-0.5)
    assert "99 %" in status["threshold_chosen"]
    again = service.client.put("/api/threshold", json={"accepted_share": 0.99})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        "the threshold for 99 % is in use already",
    )
    assert service.client.post("/api/undo").status_code == 200
    assert service.name(strange)[0]["threshold"] == pytest.approx(before["threshold"])
    wrong = service.client.put("/api/threshold", json={"accepted_share": 0.5})
    assert wrong.status_code == 404
    assert wrong.json()["detail"].endswith("it judged 0.9, 0.99")


def test_no_threshold_was_judged(serve, run):
    """Would catch a service that does not start, or offers thresholds, without the study's table."""
    (run.parents[1] / "rejection_thresholds.csv").unlink()
    service = serve()
    assert service.get("/api/thresholds").json()["thresholds"] == []
    answer = service.client.put("/api/threshold", json={"accepted_share": 0.9})
    assert answer.status_code == 404
    assert "rejection_thresholds.csv" in answer.json()["detail"]


def test_heat_map_is_that_of_the_study(serve, run, tmp_path):
    """Would catch a map of another class or crop, one that changes later answers, and a file that stops it."""
    service = serve()
    photo = photographs_of(run, 4)[0]
    (first,) = service.name([photo])
    gallery = read_gallery(run / "index", run / "model.pt")
    for class_id in (None, 2):
        asked = {} if class_id is None else {"class_id": class_id}
        answer = service.client.post("/api/heatmap", files=sent([photo]), params=asked)
        assert answer.headers["content-type"] == "image/jpeg"
        wanted = first["nearest"][0]["class_id"] if class_id is None else class_id
        assert answer.headers["Class-Name"] == f"class%20{wanted}"
        shown = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=float)
        model = TrainedModel(run / "model.pt", "cpu")
        crop = model.crop(photo, 10**8)
        proxy = gallery.embeddings[gallery.table["class_id"] == wanted].mean(axis=0)
        layer = choose_layer(model.model, model.image_size)
        heat = heat_maps(model.model, layer, model.pixels([crop]), proxy[None])[0]
        heat = Image.fromarray(np.round(255 * heat / heat.max()).astype(np.uint8))
        share = (
            0.65
            * np.asarray(heat.resize(crop.shape[:2], Image.Resampling.BICUBIC))[..., None]
            / 255
        )
        expected = (1 - share) * crop + share * np.array([255, 64, 0])
        assert shown.shape == crop.shape
        assert np.abs(shown - expected).mean() < 8
    assert service.name([photo])[0]["similarity"] == first["similarity"]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    answer = service.client.post("/api/heatmap", files=sent([bad]))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("bad.png: ")
    answer = service.client.post("/api/heatmap", files=sent([photo, photo]))
    assert (answer.status_code, answer.json()["detail"]) == (422, "send one photograph, not 2")
    answer = service.client.post("/api/heatmap", files=sent([photo]), params={"class_id": 77})
    assert (answer.status_code, answer.json()["detail"]) == (404, "there is no class 77")
