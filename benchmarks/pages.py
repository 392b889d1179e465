"""Time and size of the map and pages of a study, at the size of CUB-200-2011.

    python benchmarks/pages.py [--images 11788] [--classes 200] [--experiments 30]

Embeddings (128-d) are random, images are pieces of photographs. Limits: 180 s for a map; 60 s, 15 MB and 2.5 s
in Chromium for an experiment's page; 5 MB and 1.5 s for the page of all experiments, whose table sorts
within 0.1 s. Times of programs are those of whole programs, as the rules start them. A page is ready once it
is shown and its controls work; charts follow.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from drawn_study import DrawnStudy

from dmlstudy.data.dataset import write_csv

# From the start of the navigation, in seconds.
TIMES = """() => { const [page] = performance.getEntriesByType("navigation");
  return { ready: page.loadEventEnd / 1000, drawn: Number(document.documentElement.dataset.drawnAt) / 1000 }; }"""
SORT = """() => { const head = document.querySelector("#experiments th[data-key=precision_at_1] button");
  const begun = performance.now(); head.click(); document.body.offsetHeight; return (performance.now() - begun) / 1000; }"""

CHOOSE = """() => { const field = document.getElementById("side-one"), begun = performance.now();
  field.selectedIndex = field.options.length - 1; field.dispatchEvent(new Event("change"));
  document.body.offsetHeight; return (performance.now() - begun) / 1000; }"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=11_788)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--experiments", type=int, default=30)
    args = parser.parse_args()
    names = [f"{number + 1:03d}.Drawn_Bird_{number}" for number in range(args.classes)]
    with tempfile.TemporaryDirectory() as folder:
        study = DrawnStudy(
            Path(folder) / "study", names, args.images, args.classes // 10, {"drawn": 0.25, "drawn_anew": 0.25},
            photographs=400,
        )  # fmt: skip
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for title, step in (
            ("evaluation, of two experiments", study.evaluate),
            ("health", study.check_health),
            ("rejection, of two experiments", study.score_rejection),
            ("ways of answering, of two experiments", study.answer),
            ("comparison", study.compare),
            ("thumbnails of all images", study.thumbnails),
            ("map, both models", lambda: study.map("drawn_anew")),
            # The first experiment is the baseline, so its page compares it with nothing.
            (
                "page of the experiment",
                lambda: study.report("drawn_anew", bootstrap_draws=10_000),
            ),
            (
                f"page of {args.experiments} experiments",
                lambda: many_experiments(study, args.experiments),
            ),
        ):
            begun, spent = time.perf_counter(), os.times()
            result = step()
            spent = [
                after - before for before, after in zip(spent[2:4], os.times()[2:4], strict=True)
            ]
            text = f"{title}: {time.perf_counter() - begun:.1f} s ({sum(spent):.1f} s of CPU time)"
            if result is not None:
                text += f", {result.stat().st_size / 1e6:.1f} MB{in_browser(result)}"
            print(text, flush=True)


def many_experiments(study, count):
    """The page of all experiments after its rows were repeated under other names; its path."""
    experiments = study.folder / "experiments"
    names = [f"drawn_{number}" for number in range(count)]
    for number, name in enumerate(names):
        (experiments / name).mkdir()
        shutil.copy(experiments / "drawn" / "config.yaml", experiments / name)
        other_answers(experiments / "drawn", experiments / name, study.data, number)
    for path in (study.folder / "comparison").glob("*.csv"):
        table = pd.read_csv(path)
        if "experiment" not in table or path.stem.startswith("published"):
            continue
        own = table[table["experiment"] == "drawn_anew"]
        write_csv(path, pd.concat([table, *(own.assign(experiment=name) for name in names[2:])]))
    study.experiments = dict.fromkeys([*study.experiments, *names[2:]], 0.25)
    return study.index(bootstrap_draws=10_000)


def other_answers(source, target, data, number):
    """Answers of an experiment, of which three in five are replaced by other training images."""
    generator = np.random.default_rng(number)
    class_ids = pd.read_csv(data / "manifest.csv", usecols=["class_id"])["class_id"].to_numpy()
    split = pd.read_csv(data / "split.csv")
    gallery = split.loc[split["part"] == "train", "image_id"].to_numpy()
    for path in source.glob("seed*/*/queries.csv"):
        table = pd.read_csv(path)
        changed = generator.random(len(table)) < 0.6
        table.loc[changed, "nearest_image_id"] = generator.choice(gallery, changed.sum())
        table.loc[changed, "similarity"] = generator.random(changed.sum())
        table["nearest_class_id"] = class_ids[table["nearest_image_id"]]
        table["correct"] = (table["nearest_class_id"] == table["class_id"]).astype(int)
        folder = target / path.parent.relative_to(source)
        folder.mkdir(parents=True)
        write_csv(folder / path.name, table)


def in_browser(path):
    """What Chromium needs for a page, as text; empty without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        return ""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_function("document.documentElement.dataset.drawn")
        times = page.evaluate(TIMES)
        text = f"; in Chromium ready after {times['ready']:.2f} s, all charts after {times['drawn']:.2f} s"
        if page.locator("#side").count():
            page.wait_for_function("document.getElementById('side').dataset.shown")
            text += f", two others side by side within {page.evaluate(CHOOSE):.3f} s"
        if page.locator("#experiments").count():
            text += f", sorted within {page.evaluate(SORT):.3f} s"
        browser.close()
    return text


if __name__ == "__main__":
    main()
