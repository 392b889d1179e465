"""Pages on paper: no controls, light colours, and nothing that the page's edge cuts."""

import pytest

pytestmark = pytest.mark.pages

# A4 in landscape without margins of 12 mm, in pixels.
WIDTH, HEIGHT = 1032, 703
CONTROLS = (
    "nav, input, select, button:not(.enlarge, th button), summary, .controls, .filters, .map-card"
)
# What reaches beyond the paper, or is cut by the box that scrolls on a screen.
CUT = """() => [...document.querySelectorAll('table, th, td, figure, img, svg, .card, p')]
  .filter(one => one.checkVisibility() && one.getBoundingClientRect().width)
  .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
  .map(one => `${one.tagName} ${one.id} ${one.textContent.slice(0, 30)}`)"""
BOXES = """() => [...document.querySelectorAll('.scroll, .photos')].filter(one => one.checkVisibility())
  .filter(one => getComputedStyle(one).overflow !== 'visible' || one.scrollHeight > one.clientHeight + 1)
  .map(one => one.outerHTML.slice(0, 80))"""
# How light a colour is, from 0 to 255.
LIGHT = """selector => { const [r, g, b] = getComputedStyle(document.querySelector(selector)).backgroundColor
  .match(/[\\d.]+/g).map(Number); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }"""


@pytest.mark.parametrize("which", ["index", "report"])
def test_paper_holds_the_page(visit, report, index, which):
    """Would catch a table or chart that the edge cuts, a box that hides rows, a control, and dark paper."""
    page = visit(index if which == "index" else report, width=WIDTH, height=HEIGHT, colours="dark")
    assert page.locator("select").count() > 0
    page.emulate_media(media="print", color_scheme="dark")
    # Charts are drawn anew.
    page.wait_for_function(
        "[...document.querySelectorAll('figure.chart .main-svg')].every(one => one.getBoundingClientRect().width <= 1000)"
    )
    assert page.evaluate(CUT) == []
    assert page.evaluate(BOXES) == []
    shown = [one.evaluate("one => one.outerHTML.slice(0, 90)") for one in page.locator(CONTROLS).all() if one.is_visible()]  # fmt: skip
    assert shown == []
    assert page.evaluate(LIGHT, "body") > 250
    assert page.locator("table:visible").count() > 5
    # Back on the screen everything is there again.
    page.emulate_media(media="screen", color_scheme="dark")
    assert page.locator("nav").is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
