"""The drawn data set: the same everywhere, in the layout of CUB-200-2011, and fine-grained."""

import io
import itertools
import tarfile

import numpy as np
import pytest
from PIL import Image

from dmlstudy.data import birds
from dmlstudy.data.birds import TRAITS, draw_bird, species_traits, write_archive

SMALL = {"classes": 5, "images_per_class": 3, "image_size": 24, "seed": 3}


def draw(folder, name="birds.tgz", **changes):
    """The bytes of a small archive."""
    path = folder / name
    write_archive(path, **(SMALL | changes))
    return path.read_bytes()


def members(archive):
    """{name under the top folder: bytes}, in the archive's order."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return {
            member.name.removeprefix("CUB_200_2011/"): tar.extractfile(member).read()
            for member in tar
        }


def table(files, name):
    """The rows of a text file: {id: the rest of the line}."""
    lines = files[name].decode().splitlines()
    return {int(number): rest for number, rest in (line.split(" ", 1) for line in lines)}


def differing(one, other):
    return [trait for trait in TRAITS if one.traits[trait] != other.traits[trait]]


def test_same_seed_same_bytes(tmp_path):
    """Would catch a time stamp, order or random state that depends on the run or its processes."""
    first = draw(tmp_path, "one.tgz", threads=1)
    assert draw(tmp_path, "two.tgz", threads=1) == first
    assert draw(tmp_path, "three.tgz", threads=3) == first


def test_archive_carries_no_trace_of_the_run(tmp_path):
    """Would catch a file name or time in gzip's header, or an owner or time in tar's."""
    archive = draw(tmp_path)
    assert archive[3:8] == bytes(5)  # no flags (so no name), time 0
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname) == ("", "")
            assert member.name.startswith("CUB_200_2011/")


def test_other_seed_other_birds(tmp_path):
    """Would catch a seed that is dropped on its way to the species or to the images."""
    assert draw(tmp_path, seed=3) != draw(tmp_path, seed=4)
    assert species_traits(3, 0).traits != species_traits(4, 0).traits
    species = species_traits(3, 0)
    jobs = [birds._Job(seed, species, 0, 24, 90) for seed in (3, 4)]
    assert birds.render_image(jobs[0]) != birds.render_image(jobs[1])


def test_image_does_not_depend_on_how_many_are_drawn(tmp_path):
    """Would catch one random stream for all classes or all images."""
    few = members(draw(tmp_path))
    many = members(draw(tmp_path, classes=7, images_per_class=5))
    images = [name for name in few if name.startswith("images/")]
    assert len(images) == 15
    assert all(many[name] == few[name] for name in images)


def test_images_of_a_class_differ(tmp_path):
    """Would catch an image index that does not reach the random stream."""
    images = [data for name, data in members(draw(tmp_path)).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images) == 15


def test_layout_is_consistent(tmp_path):
    """Would catch ids that start at 0, rows that differ between files, boxes outside the image."""
    files = members(draw(tmp_path))
    images, classes = table(files, "images.txt"), table(files, "classes.txt")
    labels, boxes = table(files, "image_class_labels.txt"), table(files, "bounding_boxes.txt")
    split = table(files, "train_test_split.txt")

    assert list(classes) == list(range(1, 6))
    assert len(set(classes.values())) == 5
    for rows in (images, labels, boxes, split):
        assert list(rows) == list(range(1, 16))
    assert {f"images/{name}" for name in images.values()} == {
        name for name in files if name.startswith("images/")
    }
    for number, name in images.items():
        folder = classes[int(labels[number])]
        assert int(folder[:3]) == int(labels[number])
        assert name.startswith(f"{folder}/{folder[4:]}_")
        assert folder[4:].replace("_", "").isalpha()
        with Image.open(io.BytesIO(files[f"images/{name}"])) as image:
            image.load()
        assert (image.mode, min(image.size)) == ("RGB", 24)
        x, y, width, height = map(float, boxes[number].split())
        assert width > 0
        assert height > 0
        assert 0 <= x <= x + width <= image.width + 1e-9
        assert 0 <= y <= y + height <= image.height + 1e-9
    assert list(split.values()) == ["1", "0", "1"] * 5


def test_box_is_the_birds(monkeypatch):
    """Would catch a box in supersampled pixels, mirrored, or of another pose than the drawn one."""
    monkeypatch.setattr(birds, "OFF_CENTRE", 0.0)
    drawn = []
    monkeypatch.setattr(birds, "_draw_shapes", lambda canvas, shapes: drawn.extend(shapes))
    monkeypatch.setattr(birds, "BACKDROP_LEAVES", (0, 0))
    monkeypatch.setattr(birds, "OCCLUSION_PROBABILITY", 0.0)
    monkeypatch.setattr(birds, "_perch", lambda *_: [])
    for image in range(8):
        drawn.clear()
        rng = np.random.default_rng(image)
        _, (x, y, width, height) = draw_bird(species_traits(0, image), rng, 64)
        corners = np.concatenate([points for points, _ in drawn])
        np.testing.assert_allclose(corners.min(axis=0), (x, y), atol=0.1)
        np.testing.assert_allclose(corners.max(axis=0), (x + width, y + height), atol=0.1)


def test_images_vary_in_shape():
    """Would catch images that are all of one size, all upright, or not of the size asked for."""
    species = species_traits(0, 0)
    sizes = [draw_bird(species, np.random.default_rng(i), 32)[0].size for i in range(40)]
    assert all(min(size) == 32 for size in sizes)
    assert len(set(sizes)) > 10
    assert any(width > height for width, height in sizes)
    assert any(width < height for width, height in sizes)


def test_first_class_continues_the_sequence(tmp_path):
    """Would catch "other species" that equal the first ones, or that are drawn differently."""
    later = members(draw(tmp_path, first_class=24, classes=4))
    longer = members(draw(tmp_path, classes=28))

    def by_file_name(files):
        return {name.split("/")[-1]: data for name, data in files.items() if name.endswith(".jpg")}

    def species_of(files):
        return {name[4:] for name in table(files, "classes.txt").values()}

    assert by_file_name(later).items() <= by_file_name(longer).items()
    assert table(later, "classes.txt")[1].startswith("001.")
    assert not species_of(later) & species_of(members(draw(tmp_path, classes=24)))
    first = [tuple(species_traits(3, k).traits.values()) for k in range(24)]
    assert not set(first) & {tuple(species_traits(3, k).traits.values()) for k in range(24, 28)}


@pytest.mark.parametrize("size", [2, 4, 16])
def test_genus_mates_differ_in_two_or_three_bold_traits(size):
    """Would catch members of a genus that are equal, differ only in invisible traits, or in too many."""
    for genus in range(12):
        mates = [species_traits(5, genus * size + member, size) for member in range(size)]
        assert {mate.genus for mate in mates} == {genus}
        for one, other in itertools.combinations(mates, 2):
            traits = differing(one, other)
            assert 2 <= len(traits) <= 3
            assert set(traits) <= set(birds.BOLD_TRAITS)
            assert (one.body_depth, one.head_size) == (other.body_depth, other.head_size)


def test_mates_share_more_than_strangers():
    """Would catch genera that exist in name only: members no more similar than strangers."""
    flock = [species_traits(0, k) for k in range(80)]
    mates, strangers = [], []
    for one, other in itertools.combinations(flock, 2):
        (mates if one.genus == other.genus else strangers).append(len(differing(one, other)))
    assert max(mates) <= 3
    assert np.mean(strangers) > 3 * np.mean(mates)


def test_no_two_of_200_species_are_alike():
    """Would catch two classes that no method could tell apart, or that share a name."""
    for seed in range(3):
        flock = [species_traits(seed, k) for k in range(200)]
        assert len({tuple(species.traits.values()) for species in flock}) == 200
        assert len({species.name for species in flock}) == 200


def test_names_never_repeat():
    """Would catch names that repeat before all are used."""
    assert len({birds._name(0, 0, k) for k in range(39200)}) == 39200


def test_every_trait_value_can_be_drawn():
    """Would catch a value of a trait without a shape or a colour."""
    whole = species_traits(0, 0)
    values = {trait: getattr(whole, trait) for trait in whole.__dataclass_fields__}
    for trait, choices in TRAITS.items():
        for choice in choices:
            species = birds.Species(**(values | {trait: choice}))
            image, _ = draw_bird(species, np.random.default_rng(0), 16)
            assert min(image.size) == 16


def test_bold_marks_change_the_image():
    """Would catch a bold trait that another shape covers, so that members of a genus look alike."""
    whole = species_traits(0, 0)
    values = {trait: getattr(whole, trait) for trait in whole.__dataclass_fields__}
    for trait, choices in birds.BOLD_TRAITS.items():
        shapes = []
        for choice in choices:
            species = birds.Species(**(values | {trait: choice}))
            scene, _ = birds._bird_shapes(species, np.random.default_rng(0))
            canvas = Image.new("RGB", (600, 600))
            birds._draw_shapes(canvas, [(points * 60 + 100, colour) for points, colour in scene])
            shapes.append(np.asarray(canvas, dtype=int))
        for one, other in itertools.combinations(shapes, 2):
            changed = np.abs(one - other).max(axis=2) > 30
            # Of about 10,000 supersampled pixels of the bird.
            assert changed.sum() > 60, trait


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 0}, "classes must be at least 1"),
        ({"images_per_class": -1}, "images_per_class must be at least 1"),
        ({"image_size": 4}, "image_size must be at least 8"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"first_class": -2}, "first_class must be at least 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"quality": 100}, "quality must be in"),
        ({"classes_per_genus": 0}, "classes_per_genus must be in"),
        ({"classes_per_genus": 17}, "classes_per_genus must be in"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, changes, words):
    """Would catch an empty archive, or a library's error instead of a clear message."""
    with pytest.raises(ValueError, match=words):
        draw(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    """Would catch an incomplete archive under the final name, or a temporary file left behind."""
    old = draw(tmp_path)
    render = birds.render_image

    def fails_midway(job):
        if (job.species.index, job.image) == (2, 1):
            raise OSError("no space left")
        return render(job)

    monkeypatch.setattr(birds, "render_image", fails_midway)
    for name in ("birds.tgz", "new.tgz"):
        with pytest.raises(OSError, match="no space left"):
            draw(tmp_path, name, seed=9)
    assert [path.name for path in tmp_path.iterdir()] == ["birds.tgz"]
    assert (tmp_path / "birds.tgz").read_bytes() == old


def test_progress_counts_every_image(tmp_path):
    """Would catch a progress bar that does not reach its end."""
    steps = []
    draw(tmp_path, progress=steps.append)
    assert steps == [1] * 15
