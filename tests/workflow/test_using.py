"""Using finished runs: indexes, naming photographs, enrolling classes, clear messages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import run_program

from dmlstudy.core.files import file_digest
from dmlstudy.data.dataset import read_manifest
from dmlstudy.evaluate.answer_tables import parameters_of
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.plan.evaluation_settings import ANSWERS
from dmlstudy.use.answering import fitted, names
from dmlstudy.use.gallery import classify, enrol, make_gallery
from dmlstudy.use.index_files import read_gallery
from dmlstudy.use.photographs import MAX_PIXELS
from dmlstudy.use.trained_model import TrainedModel

BASE = "EPSHN_cosine_resnet18_sgd_aug"
ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
EXPERIMENTS = [
    BASE,
    "EPSHN_cosine_resnet18_classifier_sgd_aug",
    "EPSHN_cosine_resnet18+1dBN_sgd_aug",
    ARCFACE,
    "other_species_resnet18",
]
# Tables keep six decimals.
TOLERANCE = 1.1e-6


class Using:
    """The finished study, its images, and the programs that use its runs."""

    def __init__(self, project):
        self.project = project
        self.manifest = read_manifest(project.result("data/tiny_birds/manifest.csv"))
        split = pd.read_csv(project.result("data/tiny_birds/split.csv"))
        self.part = split.set_index("image_id")["part"]
        self.images = project.result("data/tiny_birds/images")

    def run(self, class_set, name=BASE):
        return self.project.result(f"experiments/{name}/seed42/{class_set}")

    def photos(self, image_ids):
        return [self.images / self.manifest["path"][i] for i in image_ids]

    def unseen(self):
        """[(class name, ids of its gallery images)] of the last two classes."""
        for class_id in (4, 5):
            rows = self.manifest[self.manifest["class_id"] == class_id]
            ids = [i for i in rows["image_id"] if self.part[i] == "train"]
            yield rows["class_name"].iloc[0], ids

    def program(self, name, *arguments, ok=True):
        """Run a program in this process, where torch is already imported; returns (stdout, stderr)."""
        script = self.project.folder / "workflow/scripts" / name
        code, out, errors = run_program(script, *arguments)
        assert (code == 0) == ok, out + errors
        assert "Traceback" not in errors
        return out, errors


@pytest.fixture(scope="module")
def using(finished, tmp_path_factory):
    project = finished.copy(tmp_path_factory.mktemp("using") / "project")
    folder = f"results/tiny/experiments/{BASE}/seed42"
    # Its loss learns a vector per class, so it is answered in every way.
    arcface = f"results/tiny/experiments/{ARCFACE}/seed42/limited_classes"
    project.snakemake(
        f"{folder}/all_classes/index",
        f"{folder}/limited_classes/index_seen",
        f"{arcface}/index_seen",
    )
    return Using(project)


def check_against_queries(using, run, nearest, class_ids, similarities):
    """Answers equal the run's own table, except where rounding decides."""
    own = pd.read_csv(run / "queries.csv")
    with np.load(run / "embeddings.npz") as stored:
        two = nearest_neighbours(stored["query_embeddings"], stored["gallery_embeddings"], 2)[0]
    clear = two[:, 0] - two[:, 1] > TOLERANCE
    assert clear.mean() > 0.7
    assert (nearest == own["nearest_image_id"])[clear].all()
    assert (class_ids == own["nearest_class_id"])[clear].all()
    assert ((class_ids == own["class_id"]) == own["correct"])[clear].all()
    np.testing.assert_allclose(similarities, own["similarity"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_enrolled_unseen_classes_give_the_table_of_the_run(finished, name):
    """Would catch photographs that are prepared differently from the pack, for any head."""
    using = Using(finished)
    run = using.run("limited_classes", name)
    model = TrainedModel(run / "model.pt")
    with np.load(run / "embeddings.npz") as stored:
        embeddings = dict(stored)
    gallery = make_gallery(
        embeddings, using.manifest, np.arange(6) < 4, model_sha256="", accepted_share=0.95
    )
    image_ids = gallery.table["image_id"].tolist()
    for class_name, ids in using.unseen():
        photos = using.photos(ids)
        vectors, _, problems = model.embed(photos, max_pixels=MAX_PIXELS)
        assert problems == []
        gallery = enrol(gallery, class_name, vectors, [str(photo) for photo in photos])
        image_ids += ids
    queries = using.photos(embeddings["query_image_ids"])
    answers = classify(gallery, model.embed(queries, max_pixels=MAX_PIXELS)[0], 1)
    row_of = gallery.table.set_index("image_id")["row"]
    nearest = np.array(image_ids)[row_of[answers["nearest_image_id"]]]
    check_against_queries(using, run, nearest, answers["nearest_class_id"], answers["similarity"])


def test_round_trip_by_the_programs(using, tmp_path):
    """Would catch a program that embeds, names or counts differently from the study."""
    run = using.run("limited_classes")
    for class_name, ids in using.unseen():
        folder = tmp_path / class_name
        folder.mkdir()
        for photo in using.photos(ids):
            shutil.copy(photo, folder)
        out, _ = using.program(
            "enrol.py", "--run", run, "--index", "index_seen", "--name", class_name, folder
        )
        assert f"{len(ids)} photographs enrolled as {class_name}" in out
    own = pd.read_csv(run / "queries.csv")
    photos = using.photos(own["image_id"])
    out, _ = using.program("name_photos.py", "--run", run, "--csv", tmp_path / "t.csv", *photos)
    assert str(run / "index_enrolled") in out.splitlines()[0]
    assert len(out.splitlines()) == 2 + len(photos)
    # Eight training images of the two unseen classes, which the limited model was not trained on.
    chosen = "accept 95 % of new photographs of enrolled classes, on 8 images of classes that the model was not"
    assert chosen in out.splitlines()[1]
    answers = pd.read_csv(tmp_path / "t.csv")
    assert answers["photo"].tolist() == [str(photo) for photo in photos]
    by_name = {Path(path).name: i for i, path in enumerate(using.manifest["path"])}
    nearest = answers["nearest_path"].map(lambda path: by_name[Path(path).name])
    check_against_queries(using, run, nearest, answers["nearest_class_id"], answers["similarity"])
    np.testing.assert_allclose(
        answers["distance"], np.sqrt(2 - 2 * answers["similarity"]), atol=1e-4
    )
    # Files of the workflow have not changed.
    assert len(read_gallery(run / "index_seen", run / "model.pt").table) == 15
    # A photograph of the gallery finds itself.
    out, _ = using.program("name_photos.py", "--run", run, using.photos([0])[0])
    assert re.search(r": 001\.\S+; similarity 1\.0000, distance 0\.00", out)


def test_every_way_answers_as_the_table_of_the_study(using):
    """Would catch an index that is fitted, chosen or enrolled differently from the study, in any way."""
    run = using.run("limited_classes", ARCFACE)
    gallery = read_gallery(run / "index_seen", run / "model.pt")
    table = pd.read_csv(using.project.result(f"experiments/{ARCFACE}/answers.csv"))
    table = table[table["class_set"] == "limited_classes"].set_index("answer")
    assert names(gallery.metadata) == table.index.tolist() == list(ANSWERS)
    model = TrainedModel(run / "model.pt")
    for class_name, ids in using.unseen():
        photos = using.photos(ids)
        vectors = model.embed(photos, max_pixels=MAX_PIXELS)[0]
        gallery = enrol(gallery, class_name, vectors, [str(photo) for photo in photos])
    own = pd.read_csv(run / "queries.csv")
    embeddings = model.embed(using.photos(own["image_id"]), max_pixels=MAX_PIXELS)[0]
    for entry in gallery.metadata["answers"]:
        found = classify(gallery, embeddings, 1, answer=entry["name"])
        right = found["answer_class_id"] == own["class_id"]
        expected = table.loc[entry["name"]]
        assert right.sum() == round(expected["precision_at_1"] * len(own)), entry["name"]
        unseen = own["class_id"] >= 4
        assert right[unseen].mean() == pytest.approx(
            expected["precision_at_1_unseen_classes"], abs=TOLERANCE
        )
        assert (
            parameters_of(entry["piece"], fitted(gallery, entry["name"])) == expected["parameters"]
        )


def test_a_class_comes_and_goes_by_the_programs(using, tmp_path):
    """Would catch a program that answers in another way than it was asked for, or a class that stays."""
    run, out = using.run("limited_classes", ARCFACE), tmp_path / "own"
    (class_name, ids), _ = using.unseen()
    photos = using.photos(ids)
    index = ("--run", run, "--index", "index_seen", "--out", out)
    using.program("enrol.py", *index, "--name", class_name, *photos)
    naming = ("name_photos.py", "--run", run, "--index", out, "--csv", tmp_path / "t.csv")
    said, _ = using.program(*naming, "--answer", "lda", *photos)
    lines = said.splitlines()
    assert re.fullmatch(
        r"answers by lda \(priors equal, shrinkage 0\.\d+\); unknown is what is less similar .*",
        lines[2],
    )
    answers = pd.read_csv(tmp_path / "t.csv")
    gallery = read_gallery(out, run / "model.pt")
    vectors = gallery.embeddings[-len(ids) :]
    class_ids, scores = fitted(gallery, "lda").answers(vectors)
    assert answers["answer_class_id"].tolist() == class_ids.tolist()
    np.testing.assert_allclose(answers["answer_score"], scores, rtol=1e-4, atol=1e-4)
    for line, name, photo in zip(lines[3:], answers["answer_class_name"], photos, strict=True):
        assert re.match(
            rf"{re.escape(str(photo))}: .*{re.escape(name)}\)?; lda, score \S+; nearest "
            rf"{re.escape(class_name)}, similarity 1\.0000, distance 0\.00\d\d; vote ",
            line,
        )
        assert "probability" not in line
    said, _ = using.program("remove_class.py", *index, "--name", class_name)
    assert f"{class_name} is removed, with {len(ids)} photographs; the index has 4 classes" in said
    for name in ANSWERS:
        using.program(*naming, "--answer", name, *photos)
        answers = pd.read_csv(tmp_path / "t.csv")
        for column in ("answer_class_name", "nearest_class_name", "vote_class_name"):
            assert class_name not in answers[column].tolist()
    errors = using.program("remove_class.py", *index, "--name", class_name, ok=False)[1]
    assert "is not in the index" in errors


def test_documented_commands(using):
    """Would catch commands in docs/using-a-model.md that do not run, or do not do what it says."""
    page = (Path(__file__).parents[2] / "docs" / "using-a-model.md").read_text()
    block = page.split("```")[1]
    assert block.count("python workflow/scripts/") == 2
    folder = using.project.folder
    # Test images: they are in no index.
    queries = using.photos(using.part.index[using.part == "test"])
    for place, photo in (
        ("photo.jpg", queries[0]),
        ("more_photos/a.jpg", queries[1]),
        ("more_photos/b.jpg", queries[2]),
        ("blue_tits/a.jpg", queries[1]),
        ("blue_tits/b.jpg", queries[3]),
    ):
        (folder / place).parent.mkdir(exist_ok=True)
        shutil.copy(photo, folder / place)
    block = block.replace("results/", "results/tiny/")
    block = block.replace("$run/index\n", "$run/index --configfile tests/workflow/tiny.yaml\n")
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-e", "-c", block],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # The index exists and nothing has changed.
    assert "Nothing to be done" in done.stdout + done.stderr
    photos = ["photo.jpg", "a.jpg", "b.jpg"]
    answers = pd.read_csv(folder / "answers.csv")
    assert [Path(photo).name for photo in answers["photo"]] == photos
    assert (answers["similarity"] < 0.999).all()
    # Without further options, naming now uses the enrolled class.
    words = ("--run", using.run("all_classes"), "--csv", folder / "answers.csv")
    using.program("name_photos.py", *words, folder / "photo.jpg", folder / "more_photos")
    answers = pd.read_csv(folder / "answers.csv")
    assert (answers["similarity"] > 0.999).tolist() == [False, True, False]
    assert answers["nearest_class_name"][1] == "Blue Tit"
    gallery = read_gallery(
        using.run("all_classes") / "index_enrolled", using.run("all_classes") / "model.pt"
    )
    enrolled = gallery.table[gallery.table["class_name"] == "Blue Tit"]
    assert enrolled["image_id"].tolist() == [36, 37]
    assert enrolled["class_id"].tolist() == [6, 6]
    assert [Path(path) for path in enrolled["path"]] == [
        folder / "blue_tits/a.jpg",
        folder / "blue_tits/b.jpg",
    ]
    # A second enrolment is refused and changes nothing.
    before = file_digest(using.run("all_classes") / "index_enrolled/gallery.csv")
    words = ("--run", using.run("all_classes"), "--name", "Blue Tit", folder / "blue_tits")
    assert "'Blue Tit' is already in the index" in using.program("enrol.py", *words, ok=False)[1]
    assert file_digest(using.run("all_classes") / "index_enrolled/gallery.csv") == before


def test_threshold_is_that_of_the_table(using):
    """Would catch an index and a table that choose a threshold in two ways, for either model."""
    table = pd.read_csv(using.project.result(f"experiments/{BASE}/rejection_thresholds.csv"))
    rows = table[table["accepted_share"] == 0.95].set_index(["model", "way"])["threshold"]
    for model, index in (("all_classes", "index"), ("limited_classes", "index_seen")):
        metadata = read_gallery(using.run(model) / index, using.run(model) / "model.pt").metadata
        assert metadata["threshold"]["similarity"] == pytest.approx(
            rows[model, "held_out_classes"], abs=TOLERANCE
        )
        # One threshold for both: a model of all classes takes that of the limited one.
        assert (
            rows["all_classes", "held_out_classes"] == rows["limited_classes", "held_out_classes"]
        )
        assert metadata["threshold"]["images"] == 8


def test_other_threshold_makes_the_index_anew_and_nothing_else(using):
    """Would catch an index with an old threshold, or one that needs a new training."""
    target = f"results/tiny/experiments/{BASE}/seed42/all_classes/index"
    with open(using.project.folder / "tests/workflow/other.yaml", "w") as stream:
        stream.write("index: {accepted_share: 0.5}\n")
    planned = using.project.planned(
        target, "--configfile", "tests/workflow/tiny.yaml", "tests/workflow/other.yaml", config=None
    )
    assert planned == [f"Index the gallery of {BASE} (all_classes, seed 42): index"]


def test_unreadable_photographs_are_named_and_the_others_answered(using, tmp_path):
    """Would catch answers lost because of one broken file, success although a file failed, or control
    characters of a name in the terminal."""
    run = using.run("all_classes")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_text("no image")
    strange = tmp_path / "two\nlines<script>.jpg"
    shutil.copy(using.photos([0])[0], strange)
    places = [tmp_path / "empty", tmp_path / "broken.jpg", tmp_path / "none.jpg", strange]
    words = ("--run", run, "--index", "index", "--neighbours", "100", "--threshold", "1.1")
    out, errors = using.program("name_photos.py", *words, *places, ok=False)
    lines = out.splitlines()
    assert len(lines) == 2
    assert "two\\nlines<script>.jpg: unknown (would be 001." in lines[1]
    assert "of 23" in lines[1]
    assert "--neighbours 100: the index has only 23 images; all of them vote" in errors
    for name in ("empty", "broken.jpg", "none.jpg"):
        assert f"{tmp_path / name}: " in errors
    assert "3 of the given photographs and folders could not be read; 1 photographs" in errors
    # A class with a broken photograph is not enrolled at all.
    words = ("--run", run, "--out", "none_enrolled", "--name", "<script>")
    errors = using.program("enrol.py", *words, tmp_path / "broken.jpg", strange, ok=False)[1]
    assert "nothing was enrolled" in errors
    assert "broken.jpg: not an image" in errors
    assert not (run / "none_enrolled").exists()


def test_one_photograph_is_not_enrolled_under_two_names(using, tmp_path):
    """Would catch the same bytes in two classes: enrolled twice, or an image of the gallery again."""
    run, out = using.run("all_classes"), tmp_path / "own"
    query = using.photos(using.part.index[using.part == "test"])[0]
    image = using.photos(using.part.index[using.part == "train"])[0]
    for place, photo in (("a.jpg", query), ("copy of a.jpg", query), ("gallery.jpg", image)):
        shutil.copy(photo, tmp_path / place)
    words = ("--run", run, "--out", out)
    using.program("enrol.py", *words, "--name", "one", tmp_path / "a.jpg")
    before = file_digest(out / "gallery.csv")
    for name, place, said in (
        ("two", "copy of a.jpg", f"as 'one': it equals {tmp_path / 'a.jpg'}"),
        ("two", "gallery.jpg", "is already in the index, as '001."),
    ):
        errors = using.program("enrol.py", *words, "--name", name, tmp_path / place, ok=False)[1]
        assert said in errors
    assert file_digest(out / "gallery.csv") == before


def test_mistakes_are_told_in_words(using, tmp_path):
    """Would catch a traceback, or a search in the index of another model."""
    run, photo = using.run("all_classes"), using.photos([0])[0]
    limited = using.run("limited_classes")
    naming = ("name_photos.py", "--run")
    cases = [
        ((*naming, tmp_path, photo), ["model.pt: no such file", "snakemake --cores all"]),
        (
            (*naming, using.run("all_classes", EXPERIMENTS[3]), photo),
            ["there is no index", "snakemake"],
        ),
        (
            (*naming, run, "--index", limited / "index_seen", photo),
            ["was made with another model", "enrol your classes again", "/index_seen"],
        ),
        ((*naming, run, "--neighbours", "0", photo), ["--neighbours 0"]),
        (
            (*naming, run, "--answer", "ldaa", photo),
            ["--answer ldaa: the index does not answer", "known: nearest, ", "did you mean lda?"],
        ),
        (
            (*naming, run, "--answer", "imprinted_classifier", photo),
            ["needs a loss that learns a vector per class"],
        ),
        (("remove_class.py", "--run", run, "--name", "new"), ["'new' is not in the index"]),
        (
            ("remove_class.py", "--run", run, "--name", "new", "--out", "index"),
            ["the workflow makes this index"],
        ),
        (
            ("enrol.py", "--run", run, "--name", "two\nlines", photo),
            ["one line of printable characters"],
        ),
        (
            ("enrol.py", "--run", run, "--name", "new", "--out", "index", photo),
            ["the workflow makes this index"],
        ),
        (
            ("enrol.py", "--run", run, "--name", "new", "--add-to-existing", photo),
            ["'new' is not in the index"],
        ),
        (
            ("enrol.py", "--run", run, "--name", "new", tmp_path),
            ["nothing was enrolled", "no photographs in this folder"],
        ),
    ]
    for arguments, words in cases:
        errors = using.program(*arguments, ok=False)[1]
        for word in words:
            assert word in errors
