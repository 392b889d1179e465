"""Benchmarks run, and compare what they claim to compare. Times are not checked."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
import pytest

from dmlstudy.plan.evaluation_settings import ANSWERS

PROJECT = Path(__file__).resolve().parents[2]
# Without the environment's packages, it starts faster; the program gets them all.
WARM = [sys.executable, "-S", Path(__file__).with_name("warm_program.py")]


@pytest.fixture(scope="module", autouse=True)
def shared_servers(sharing):
    """Programs that measure times are forks of a process that has imported torch."""
    with sharing():
        yield


def run(program, *options, **settings):
    """Run a program of the project to its end, whatever its exit code."""
    command = [*WARM, PROJECT / program, *options]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **settings
    )


def bench(name, tmp_path, *options):
    done = run(f"benchmarks/{name}.py", "--results", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    return pd.read_csv(tmp_path / f"{name}.csv"), (tmp_path / f"{name}.txt").read_text()


def test_training_has_all_arms_on_equal_pixels(tmp_path):
    """Would catch a program that no longer runs, or arms with different pixels (the program checks that)."""
    options = "--sizes 32 --images 8 --distinct 4 --batch-size 4 --rounds 1 --workers 1 --threads 1"
    table, text = bench("training", tmp_path, *options.split())
    arms = ["notebook, no workers", "notebook, workers", "ours, float32", "upper bound, float32"]
    assert table["arm"].tolist()[:4] == arms
    own = table.set_index("arm")
    assert own.loc["notebook, no workers", "times_notebook_no_workers"] == 1
    assert own.loc["upper bound, float32", "share_of_upper_bound"] == 1
    assert (table["images_per_second"] > 0).all()
    for word in ("8 JPEGs", "batches of 4", "torch 2.", "cores"):
        assert word in text


def test_pixels_that_differ_end_the_benchmark(tmp_path):
    """Would catch a comparison of two trainings on different images."""
    import torch
    import training

    from dmlstudy.compute.batches import ImageBatches
    from dmlstudy.data.pack import Pack, write_pack

    measuring.make_images(tmp_path / "images", 3, 3)
    paths = sorted((tmp_path / "images").glob("*/*.jpg"))
    manifest = pd.DataFrame({"path": paths, "width": 500, "height": 375})
    write_pack(tmp_path / "pack", "/", manifest, "shorter35", max_pixels=10**6)
    images = ImageBatches(Pack(tmp_path / "pack"), 32, torch.device("cpu"))
    training.check_pixels(images, paths, 32, 35)
    with pytest.raises(AssertionError):
        training.check_pixels(images, paths[::-1], 32, 35)


def test_heads_are_measured_beside_the_bare_loop(tmp_path):
    """Would catch a program that no longer runs, or a recipe that is left out."""
    options = (
        "--images 480 --classes 40 --widths 1280 --epochs 1 --run-epochs 2 --rounds 1 --threads 1"
    )
    table, text = bench("head_training", tmp_path, *options.split())
    assert table["recipe"].tolist()[0] == "linear probe"
    assert len(table) == 5
    assert (table[["ours_times_bare", "run_seconds"]] > 0).all(axis=None)
    assert "480 features" in text


def test_memory_of_the_programs_that_read_photographs(tmp_path):
    """Would catch a program whose options have changed, or that takes more memory than its rule requests."""
    options = ["--images", "60", "--classes", "6", "--results", tmp_path]
    # The programs that it measures start by themselves.
    done = run("benchmarks/memory_requests.py", "data", *options)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "memory_requests_data.csv")
    assert {"list_images.py", "find_problems.py", "pack.py", "explain.py"} <= set(table["what"])
    assert (table["peak_mb"] > 0).all()


@pytest.mark.parametrize("name", ["pages", "memory_requests", "demo_study", "service"])
def test_benchmarks_start_by_hand(name, tmp_path):
    """Would catch a program that only finds the library in the tests' own path."""
    command = [sys.executable, str(PROJECT / "benchmarks" / f"{name}.py"), "--help"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)


def test_simclr_has_all_arms(tmp_path):
    """Would catch a program that no longer runs."""
    options = "--sizes 32 --images 8 --distinct 4 --batch-size 4 --rounds 1 --workers 1 --threads 1"
    table, text = bench("simclr", tmp_path, *options.split())
    assert table["arm"].tolist() == [
        "ours",
        "lightly on JPEGs, workers",
        "lightly on the pack, workers",
    ]
    assert "kornia" in text


def test_answers_has_every_width_and_way(tmp_path):
    """Would catch a program that no longer runs, or a way of answering that is not timed."""
    options = "--images 120 40 --classes 10 --dimensions 16 --widths 5 20"
    table, text = bench("answers", tmp_path, *options.split())
    assert table["width"].dropna().tolist() == [5, 20]
    of_ways = table[table["way"].notna()]
    assert set(of_ways["way"]) == set(ANSWERS)
    # There are 12 photographs of the only added class.
    assert (of_ways["photographs_of_a_class"] == 12).all()
    assert "enrolment curve" in text


def test_precision_has_every_loss_of_the_study():
    """Would catch a loss that is left out, or has other parameters than the study's."""
    import precision

    from dmlstudy.plan.sources import read_yaml

    entries = read_yaml(PROJECT / "config" / "experiments.yaml")["experiments"].values()
    kinds = {entry["loss"]["kind"] for entry in entries if "kind" in entry.get("loss", {})}
    assert {loss["kind"] for loss, _ in precision.LOSSES.values()} == kinds
    for entry in entries:
        if entry.get("loss", {}).get("kind") not in (None, "epshn", "crossentropy"):
            assert entry["loss"] in [loss for loss, _ in precision.LOSSES.values()]


def test_precision_compares_trainings(tmp_path):
    """Would catch a program that no longer runs, or a table that does not add up."""
    options = "--seeds 2 --images-per-class 10 --epochs 1 --jobs 1 --losses ArcFace"
    done = run("benchmarks/precision.py", "--results", tmp_path, *options.split())
    # Trainings as short as these may differ.
    assert done.returncode in (0, 1), done.stderr
    table = pd.read_csv(tmp_path / "precision.csv")
    assert table["loss"].tolist() == ["ArcFace"]
    assert (table["seeds"] == 2).all()
    assert np.allclose(table["difference"], table["bfloat16"] - table["float32"])
    assert "features of the starting weights" in (tmp_path / "precision.txt").read_text()


@pytest.mark.parametrize("layer", ["convolution", "linear"])
def test_emulated_bfloat16_sums_in_float32(layer):
    """Would catch sums in bfloat16, which torch's own emulation has, or operands of float32."""
    import precision
    import torch

    torch.manual_seed(0)
    if layer == "convolution":
        module, images = torch.nn.Conv2d(8, 16, 3, bias=False), torch.randn(64, 8, 10, 10)
    else:
        module, images = torch.nn.Linear(200, 16, bias=False), torch.randn(256, 200)

    def gradients(module, images, emulated):
        images = images.clone().requires_grad_()
        module.zero_grad()
        if emulated:
            with precision.SumsInFloat32(), torch.autocast("cpu", dtype=torch.bfloat16):
                found = module(images)
                found.backward(torch.ones_like(found))
        else:
            found = module(images)
            found.backward(torch.ones_like(found))
        return found.detach(), images.grad, module.weight.grad

    found = gradients(module, images, emulated=True)
    with torch.no_grad():
        module.weight.copy_(module.weight.bfloat16())
    exact = gradients(module, images.bfloat16().float(), emulated=False)
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(found, exact, strict=True):
        # Rounded once: half a unit in the last of eight binary digits.
        torch.testing.assert_close(one.float(), other, rtol=2**-8, atol=1e-6)
        assert not torch.equal(one.float(), other)


def test_arms_take_turns_and_ratios_are_of_rounds():
    """Would catch an arm that is always first or not warmed up, or an inverted ratio."""
    order = []
    seconds = measuring.in_turn({name: lambda name=name: order.append(name) for name in "ab"}, 2)
    assert order == ["a", "a", "b", "b", "b", "b", "a", "a"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert measuring.ratio({"slow": [4.0, 9.0, 8.0], "fast": [2.0, 3.0, 4.0]}, "slow", "fast") == 2


def test_memory_of_a_process_is_what_it_holds():
    """Would catch memory-mapped files counted as memory of the job."""
    code = "x = b'1' * 200_000_000; input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        seen = 0
        for _ in range(1000):
            seen = max(seen, measuring.memory_of(process.pid)[0])
            if seen > 200e6:
                break
            np.linalg.norm(np.ones((200, 200)), 2)
        assert 200e6 < seen < 400e6
        assert measuring.cpu_seconds(process.pid) >= 0
    finally:
        process.kill()
        process.wait()


def test_estimate_needs_nothing_but_a_configuration(tmp_path):
    """Would catch an estimate that needs a download, or omits an experiment."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        f"only: [EPSHN_cosine_resnet18_sgd_aug]\nresults_dir: {tmp_path}/results\n"
        "untrained: {backbones: [resnet18]}\n"
    )
    command = ["workflow/scripts/estimate.py", "--seconds", "0", "--configfile"]
    done = run(*command, PROJECT / "config/demo.yaml", mine, "--jobs", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "EPSHN_cosine_resnet18_sgd_aug",
        "initializer other_species (resnet18)",
        "drawn_birds 1,200 images",
        "one at a time",
        "2 at a time",
    ):
        assert words in done.stdout
    assert not (tmp_path / "results").exists()
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text("dataset: {md5: null, bytes: null, source: https://example.org/mine.zip}\n")
    done = run(*command, unknown)
    assert done.returncode == 1
    assert "say --images NUMBER" in done.stderr


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan"])
def test_number_that_means_nothing_is_refused(value):
    """Would catch a benchmark of 0 images, or one that ends in a traceback after minutes."""
    with pytest.raises((argparse.ArgumentTypeError, ValueError)):
        measuring.at_least_one(value)
    assert measuring.at_least_one("1") == 1


def test_results_folder_is_checked_first(tmp_path):
    """Would catch a benchmark that cannot write its results after it has measured."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(argparse.ArgumentTypeError, match="this is a file"):
        measuring.results_folder(str(tmp_path / "file"))
    assert measuring.results_folder(str(tmp_path / "new")) == str(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("untrained", [False, True])
def test_rejection_rate_over_draws(tmp_path, untrained):
    """Would catch a program that no longer runs, or classes that judge what they have chosen.

    The images are as similar as chance has it, so every threshold keeps its rate.
    """
    from dmlstudy.data.dataset import make_class_set, make_split, write_csv

    rng = np.random.default_rng(0)
    manifest = pd.DataFrame({"image_id": range(800), "class_id": np.arange(800) // 50})
    manifest["path"] = manifest["class_name"] = "x" + manifest["class_id"].astype(str)
    data, run = tmp_path / "data", tmp_path / "limited_classes"
    split = make_split(manifest, method="stratified", test_share=0.2, seed=42)
    write_csv(data / "manifest.csv", manifest.assign(width=1, height=1))
    write_csv(data / "split.csv", split)
    sets = make_class_set(16, "limited_classes", unseen=4)
    write_csv(data / "class_sets/limited_classes.csv", sets)
    vectors = rng.standard_normal((800, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    train = (split["part"] == "train").to_numpy()
    run.mkdir()
    np.savez(
        run / "embeddings.npz",
        **{
            f"{role}_{name}": values[rows]
            for role, rows in (("gallery", train), ("query", ~train))
            for name, values in (("embeddings", vectors), ("image_ids", np.arange(800)))
        },
    )
    options = ["--run", run, "--data", data, "--draws", 10]
    table, text = bench("rejection_rate", tmp_path, *options, *["--untrained"] * untrained)
    assert len(table) == 10 * 2 * 2
    means = table.groupby(["way", "wanted"])["accepted"].mean()
    for (_, wanted), mean in means.items():
        assert mean == pytest.approx(wanted, abs=0.04)
    assert "10 draws" in text


def test_search_is_measured_against_the_exact_answer(tmp_path):
    """Would catch rows of two galleries that do not belong together, or an index that is compared with itself."""
    options = "--sizes 3000 --simulated 12000 --queries 20 --dimensions 32"
    table, text = bench("search", tmp_path, *options.split())
    assert table["vectors"].tolist() == [3000] * 7 + [12000] * 3
    exact = table[table["index"].str.startswith("exact")]
    assert exact["recall_at_1"].tolist() == [1, 1]
    assert table["recall_at_1"].between(0, 1).all()
    assert (table["in_the_nearest_100"] >= table["recall_at_1"]).all()
    # Both lists of the large index are searched, so only codes can lose the nearest image.
    assert (table["in_the_nearest_100"].tail(2) > 0.8).all()
    # 3,000 vectors of 32 float32 values, and some bytes of the file's head.
    assert exact["megabytes"].iloc[0] == pytest.approx(3000 * 32 * 4 / 1e6, rel=0.01)
    assert exact["megabytes"].iloc[1] == pytest.approx(4 * exact["megabytes"].iloc[0])
    assert "20 queries one by one" in text


def test_growth_is_told_from_start_up(tmp_path):
    """Would catch a program whose options have changed, start-up that is counted as growth, or a program that
    grows with the square of the images and is not named.
    """
    import growth
    from rule_programs import Cost

    options = "--what tables --start-up 40/4 --sizes 60/6 --bootstrap-draws 100 --enrolment-draws 1"
    table, text = bench("growth", tmp_path, *options.split())
    assert {"evaluate.py", "map_embeddings.py", "report.py"} <= set(table["what"])
    assert sorted(set(table["images"])) == [40, 60]
    assert (table[["cpu_seconds", "peak_mb", "written_mb"]] > 0).all(axis=None)
    assert "| evaluate.py |" in text
    assert (tmp_path / "growth.svg").read_text().count("</svg>") == 1

    found = growth.Growth()
    for images, squared, linear in (
        (100, 2, 2),
        (1000, 3, 3),
        (10_000, 102, 12),
        (20_000, 402, 22),
    ):
        costs = {"squared": squared, "linear": linear, "quick": 2.2}
        found.sizes[images, 10] = {name: Cost(1, cpu, 1) for name, cpu in costs.items()}
    assert [value for _, _, value in found.exponents("quick")] == [None, None]
    (_, _, first), (_, _, second) = found.exponents("squared")
    assert first == (pytest.approx(2), False)
    assert second == (pytest.approx(2), False)
    assert [one.split(":")[0] for one in found.fast_growing()] == ["squared", "squared"]
    assert growth.exponent(2, (1000, 2.1), (2000, 4))[1]


def test_drawn_embeddings_lie_in_classes():
    """Would catch vectors that are not of length 1, or classes that are drawn anew in each part."""
    import search

    drawn = search.Drawn(20_000, 16)
    whole = drawn.centres(0, 400)
    np.testing.assert_array_equal(drawn.centres(130, 50), whole[130:180])
    vectors = drawn.photographs(120, 120)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    asked, classes = drawn.queries(10)
    nearest = (asked @ search.unit(whole).T).argmax(axis=1)
    assert (nearest == classes).mean() >= 0.8
    of_class, of_genus, of_others = search.likeness(64)
    assert of_class > of_genus > of_others
