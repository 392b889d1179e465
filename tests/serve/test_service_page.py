"""The page of the service in a real browser."""

import re
import shutil

import pandas as pd
import pytest
from tiny_service import photographs_of

pytestmark = pytest.mark.pages

REFUSED = re.compile(r"status of (401|409)")
SCRIPT = "<script>alert(1)</script>"
# Every control of the page, and what a screen reader would call it.
NAMELESS = """() => [...document.querySelectorAll("input, button, a, [role=region], dialog")].filter(one => {
  const labels = one.labels ? [...one.labels].map(label => label.textContent).join("") : "";
  const by = document.getElementById(one.getAttribute("aria-labelledby") || "");
  return !(one.getAttribute("aria-label") || labels || (by && by.textContent) || one.textContent).trim();
}).map(one => one.outerHTML)"""


@pytest.fixture
def open_page(chromium, serve):
    """open_page(service): its page. The test fails at its end if anything went wrong in it.

    Pages are closed before the services of `serve` end; one that still asks for something would be refused.
    """
    opened, wrong = [], []
    chromium.set_offline(False)

    def open_page(service, *, width=1280, colours="light"):
        page = chromium.new_page()
        opened.append(page)
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=colours)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "console",
            # A refusal that the page tells is no fault of it.
            lambda m: (
                wrong.append(f"{m.text} {m.location}")
                if m.type == "error" and not REFUSED.search(m.text)
                else None
            ),
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((service.address, "data:", "blob:"))
                else wrong.append(request.url)
            ),
        )
        page.goto(service.address)
        return page

    yield open_page
    for page in opened:
        page.close()
    chromium.set_offline(True)
    assert wrong == []


def message(page, words):
    """Wait until the page says something."""
    page.locator("#message", has_text=words).wait_for()


def classes(page):
    return page.locator("#class-rows tr:visible th").all_inner_texts()


def test_naming_enrolling_correcting_and_undoing(open_page, serve, run, tmp_path):
    """Would catch a button without its effect, a class that is not answered in the next request or after
    another start, and a name that is taken for HTML."""
    service = serve()
    page = open_page(service)
    page.locator("#served", has_text="4 classes, 19 photographs").wait_for()
    assert "91 %" in page.locator("#rates").inner_text()
    page.set_input_files("#name-files", [photographs_of(run, 0)[0], photographs_of(run, 4)[0]])
    message(page, "2 photographs named")
    cards = page.locator("#answers .card")
    assert cards.nth(0).locator(".known").inner_text() == "class 0"
    assert cards.nth(1).locator(".unknown").inner_text() == "unknown"
    assert "below the threshold" in cards.nth(1).inner_text()
    assert "75 %" in cards.nth(1).inner_text()
    # The page forbids the evaluation of strings, which wait_for_function needs while it waits.
    for _ in range(300):
        widths = page.locator("#answers img").evaluate_all(
            "all => all.map(one => one.naturalWidth)"
        )
        if len(widths) == 12 and all(widths):
            break
        page.wait_for_timeout(100)
    assert len(widths) == 12
    assert all(widths)
    # The unknown one waits for a person, who gives it a new class.
    doubt = page.locator("#doubt-list .card")
    doubt.get_by_label("Class").fill(SCRIPT)
    doubt.get_by_role("button", name="Confirm").press("Enter")
    message(page, f"4_0.png is now a photograph of {SCRIPT}")
    page.locator("#class-rows tr", has_text=SCRIPT).wait_for()
    assert SCRIPT in classes(page)
    assert doubt.count() == 0
    # A folder joins it.
    folder = tmp_path / "Blue Tits"
    folder.mkdir()
    for photo in photographs_of(run, 4)[1:]:
        shutil.copy(photo, folder)
    (folder / "list.txt").write_text("no photograph")
    page.set_input_files("#add-folder", folder)
    assert page.locator("#add-chosen").inner_text() == "5 photographs chosen from Blue Tits."
    assert page.input_value("#add-name") == "Blue Tits"
    page.fill("#add-name", SCRIPT)
    page.check("#add-existing")
    page.press("#add-button", "Enter")
    message(page, f"5 photographs of {SCRIPT} enrolled")
    assert {one["class_name"] for one in service.name(photographs_of(run, 4))} == {SCRIPT}
    page.get_by_role("button", name=f"Rename {SCRIPT}").press("Enter")
    page.get_by_label("New name").fill("Blue Tit & co")
    page.get_by_role("button", name="Yes").press("Enter")
    message(page, "is now called Blue Tit & co")
    page.locator("#class-rows tr", has_text="Blue Tit & co").wait_for(state="attached")
    page.get_by_label("Find").fill("blue")
    assert classes(page) == ["Blue Tit & co"]
    page.get_by_label("Find").fill("")
    page.get_by_role("button", name="Remove class 3").press("Enter")
    page.get_by_role("button", name="Cancel").press("Enter")
    assert "class 3" in classes(page)
    page.get_by_role("button", name="Remove class 3").press("Enter")
    page.get_by_role("button", name="Yes").press("Enter")
    message(page, "class 3 is removed")
    page.get_by_role("button", name="Undo").press("Enter")
    message(page, "Undone: class 3 removed")
    page.locator("#class-rows tr", has_text="class 3").wait_for()
    assert page.locator("#changes li").count() == 3
    # What is kept of removed classes is told, and deleted when asked.
    assert not page.locator("#removed").is_visible()
    page.get_by_role("button", name="Remove Blue Tit & co").press("Enter")
    page.get_by_role("button", name="Yes").press("Enter")
    page.locator("#removed", has_text="Kept of removed classes: 6 photographs.").wait_for()
    page.get_by_role("button", name="Undo").press("Enter")
    message(page, "Undone: Blue Tit & co removed")
    page.locator("#removed").wait_for(state="hidden")
    page.get_by_role("button", name="Remove class 2").press("Enter")
    page.get_by_role("button", name="Yes").press("Enter")
    page.locator("#removed", has_text="It can be undone that class 2 was removed.").wait_for()
    page.get_by_role("button", name="Delete them for good").press("Enter")
    page.get_by_role("button", name="Yes").press("Enter")
    message(page, "Deleted for good: 0 photographs")
    page.locator("#removed").wait_for(state="hidden")
    # What cannot be done is told.
    page.set_input_files("#add-files", photographs_of(run, 4)[:1])
    page.fill("#add-name", "other")
    page.press("#add-button", "Enter")
    page.locator("#alarm", has_text="4_0.png: this photograph is already in the index").wait_for()
    page.close()
    service.stop()
    again = serve()
    page = open_page(again)
    page.set_input_files("#name-files", photographs_of(run, 4)[:1])
    message(page, "Answer: Blue Tit & co.")


def test_thresholds_drift_and_heat_maps(serve, run, open_page):
    """Would catch a threshold that cannot be chosen on the page, drift that is not shown or names a class as
    HTML, and a heat map that does not appear."""
    table = run.parents[1] / "rejection_thresholds.csv"
    rows = pd.read_csv(table).head(1).assign(threshold=0.9)
    pd.concat([rows, rows.assign(accepted_share=0.99, threshold=-0.5)]).to_csv(table, index=False)
    service = serve()
    service.client.patch("/api/classes/0", json={"class_name": SCRIPT})
    page = open_page(service)
    page.locator("#drift-what", has_text="0 are logged, 100 more are needed").wait_for()
    # All are known; those of before are more similar.
    least = service.get("/api/status").json()["threshold"]
    past = {"nearest": [{"class_id": 1}], "similarity": least + 0.5 * (1 - least)}
    now = {"nearest": [{"class_id": 0}], "similarity": least + 0.1 * (1 - least)}
    service.desk.log.add([past] * 200 + [now] * 150)
    page.set_input_files("#name-files", photographs_of(run, 4)[:1])
    message(page, "Answer: unknown")
    page.get_by_role("button", name="Where does the model look?").press("Enter")
    page.locator(".heat img").wait_for()
    assert "what makes it like" in page.locator(".heat figcaption").inner_text()
    page.locator(
        "#drift-what", has_text="The newest 175 answers are compared with the 176"
    ).wait_for()
    cards = page.locator("#drift-signs .card")
    assert cards.count() == 3
    assert "Look at this." in cards.nth(0).inner_text()
    assert SCRIPT in cards.nth(2).inner_text()
    assert page.locator("#drift-curves svg polyline").count() == 2
    page.get_by_label("99 % of enrolled classes wanted").check()
    page.get_by_role("button", name="Decide with this one").press("Enter")
    message(page, "The threshold is now the one for 99 %.")
    page.locator("#threshold", has_text="similarity -0.5000").wait_for()
    page.locator("#changes li", has_text="threshold for 99 % chosen (before: 90 %)").wait_for()
    page.get_by_role("button", name="Undo").press("Enter")
    message(page, "Undone: threshold for 99 % chosen.")
    assert page.evaluate(NAMELESS) == []
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_dropping(open_page, serve, run):
    """Would catch a page that leaves for the photograph that is dropped on it."""
    service = serve()
    page = open_page(service)
    page.locator("#served", has_text="classes").wait_for()
    data = page.evaluate_handle(
        """async () => {
          const image = await (await fetch("/api/photographs/0")).blob(), data = new DataTransfer();
          data.items.add(new File([image], "dropped <b>.jpg", { type: "image/jpeg" }));
          return data;
        }"""
    )
    for event in ("dragover", "drop"):
        page.dispatch_event("#name-drop", event, {"dataTransfer": data})
    page.locator("#answers h3", has_text="dropped <b>.jpg").wait_for()
    for event in ("dragover", "drop"):
        page.dispatch_event("#add-drop", event, {"dataTransfer": data})
    page.locator("#add-chosen", has_text="1 photograph chosen").wait_for()


def test_token_keys_and_colours(open_page, serve, run):
    """Would catch a page without a way to give the token, a control that a screen reader cannot name or a key
    cannot reach, and a page that is wider than a phone or white at night."""
    service = serve(token="a token of some length")
    page = open_page(service, width=360, colours="dark")
    page.get_by_label("Token").fill("wrong")
    page.get_by_label("Token").press("Enter")
    page.locator("#alarm", has_text="needs its token").wait_for()
    page.get_by_label("Token").fill("a token of some length")
    page.get_by_label("Token").press("Enter")
    page.locator("#served", has_text="4 classes").wait_for()
    page.set_input_files("#name-camera", photographs_of(run, 4)[:1])
    message(page, "Answer: unknown.")
    page.locator("#doubt-list .card img").first.wait_for()
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    light = page.evaluate(
        "getComputedStyle(document.documentElement).colorScheme + matchMedia('(prefers-color-scheme: dark)').matches"
    )
    assert light == "light darktrue"
    reached = set()
    page.locator("h1").click()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.textContent")
        )
    assert {
        "name-files",
        "name-camera",
        "add-folder",
        "add-files",
        "add-name",
        "add-button",
    } <= reached
    assert {"find", "Confirm", "Dismiss", "Rename", "Remove"} <= reached
