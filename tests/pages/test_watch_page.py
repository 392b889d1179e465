"""The page of a study while it runs: what it says, odd names, width, colours, barriers."""

import io
import re
import runpy
import time
from html import escape
from pathlib import Path

import pytest
from barriers import barriers
from names import NAMES
from test_first_screen import SCREENS, SMALL

from dmlstudy.pages.watch_page import HEIGHT, WIDTH, path_of, watch_page
from dmlstudy.plan.run_journal import Run
from dmlstudy.plan.snapshot import Snapshot, line
from dmlstudy.plan.study_state import JobState
from dmlstudy.plan.training_progress import Row

SOURCE = "no Snakemake runs"


def training(name, class_set="limited_classes"):
    return {
        "name": name,
        "class_set": class_set,
        "seed": "42",
        "state": None,
        "curves": [],
        "cost": None,
    }


def snapshot(**changes):
    """A study with every state, whose names could break a page."""
    moment = time.time()
    rows = [Row(1, 2.5, 0.25, 3.0), Row(2, 1.25, None, 3.0), Row(3, 0.5, 0.75, 3.0)]
    jobs, states = [], []
    for index, name in enumerate(NAMES):
        kind = ("done", "running", "waiting", "failed")[index % 4]
        jobs.append(
            {
                "rule": "train" if index < 8 else "report_page",
                "title": f"Train {name}",
                "outputs": [f"out/{index}"],
                "log": f"logs/{name}.log",
                "after": list(range(index)) if index >= 8 else [],
                "training": training(name) if index < 8 else None,
                "work": {"epochs": 12} if index < 8 else None,
            }
        )
        seen = rows if kind in ("done", "running") and index < 8 else []
        note = f"note {name}" if kind == "waiting" else ""
        states.append(
            JobState(kind, note, moment - 30, moment if kind == "done" else None, seen, len(seen))
        )
    failures = [
        {
            "title": job["title"],
            "log": job["log"],
            "sentence": f"error {job['title']}",
            "lines": [NAMES[8], "last"],
        }
        for job, one in zip(jobs, states, strict=True)
        if one.state == "failed"
    ]
    plan = {"jobs": jobs, "results": "results/<odd>", "data": NAMES[5], "page": "x"}
    run = Run("journal", True, host="<host>", process=7, begun=moment)
    facts = {"plan": plan, "states": states, "runs": [run], "left": 200.0, "unknown": 0}
    facts |= {
        "slots": (2, 1, "of a <test>"),
        "measured": (3, 4),
        "estimated": False,
        "failures": failures,
    }
    return Snapshot(**{**facts, **changes})


def test_line_counts_jobs():
    """Would catch a line that omits failures, or a time where none is known."""
    assert line(snapshot()) == (
        "3 of 12 jobs done · 3 running · 3 waiting · 3 failed · about 3 min left"
    )
    assert "time left not known yet" in line(snapshot(left=None, unknown=2))
    done = [JobState("done")] * len(NAMES)
    found = line(snapshot(states=done, runs=[]))
    assert found == "12 of 12 jobs done · 0 running · 0 waiting · finished"
    waiting = [JobState("waiting")] * len(NAMES)
    assert line(snapshot(states=waiting, runs=[])).endswith(SOURCE)


def test_a_line_is_rewritten_in_place(monkeypatch):
    """Would catch a terminal that scrolls, or names that move its cursor."""
    scripts = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
    program = runpy.run_path(str(scripts / "watch.py"))

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "20")
    shown = program["Line"](terminal := Terminal())
    shown.show("one")
    shown.show("two \x1b[31m which is longer than the terminal")
    shown.end()
    assert terminal.getvalue() == "\r\x1b[2Kone\r\x1b[2Ktwo \\x1b[31m which \n"
    file = io.StringIO()
    shown = program["Line"](file)
    for text in ("one", "one", "two"):
        shown.show(text)
    shown.end()
    assert file.getvalue() == "one\ntwo\n"


def test_curves_are_drawn_from_their_values():
    """Would catch a curve that is upside down, or one point that is not seen."""
    assert path_of([(1, 0.0), (2, 1.0), (3, 0.5)], 1) == (
        f"M 0.0 {HEIGHT:.1f} L {WIDTH / 2:.1f} 0.0 L {WIDTH:.1f} {HEIGHT / 2:.1f}"
    )
    assert path_of([(4, 2.0)]) == "M 0.0 0.0 h 1"
    assert path_of([(1, None)]) == path_of([]) == ""
    assert path_of([(0, 0.0), (1, 0.0)]) == f"M 0.0 {HEIGHT:.1f} L {WIDTH:.1f} {HEIGHT:.1f}"


@pytest.mark.pages
@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_page_of_a_running_study(visit, tmp_path, width, height, colours):
    """Would catch names that become markup, a page wider than the screen, small text, or a barrier."""
    path = tmp_path / "watch.html"
    path.write_text(watch_page(snapshot(), seconds=500), encoding="utf-8")
    page = visit(path, width=width, height=height, colours=colours)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SMALL) == []
    assert barriers(page) == []
    tiles = page.locator(".tiles b").all_inner_texts()
    assert tiles == ["3 of 12", "3", "3", "3", "about 3 min left"]
    names = page.locator("#trainings td.name").all_inner_texts()
    assert sorted(names) == sorted(NAMES[:8])
    assert page.locator("#trainings svg").count() == 4
    assert page.locator("#failed pre").first.inner_text() == f"{NAMES[8]}\nlast"
    assert page.locator("#rules tbody tr").all_inner_texts() == [
        "train\t8\t2\t2\t2\t2",
        "report_page\t4\t1\t1\t1\t1",
    ]


@pytest.mark.pages
def test_page_loads_itself_again_and_says_when_it_is_old(visit, tmp_path):
    """Would catch a page that stays as it was, or an old one that looks new."""
    path = tmp_path / "watch.html"
    text = watch_page(snapshot(), seconds=1)
    path.write_text(text, encoding="utf-8")
    page = visit(path)
    assert not page.locator("#old").is_visible()
    stamp = re.search(r'data-written="(\d+)"', text)[1]
    path.write_text(text.replace(stamp, "1000").replace("3 of 12", "4 of 12"), encoding="utf-8")
    page.locator("b", has_text="4 of 12").wait_for()
    page.locator("#old").wait_for(state="visible")
    path.write_text(watch_page(snapshot(), seconds=1, ended="It is <over>."), encoding="utf-8")
    page.get_by_text("It is <over>.").wait_for()
    assert escape("It is <over>.") in path.read_text(encoding="utf-8")
    assert not page.locator("#old").is_visible()
