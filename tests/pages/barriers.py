"""What keeps somebody from using a page, as axe finds it."""

from axe_playwright_python.sync_playwright import Axe

# Every rule is checked. Only what passed is not described, which takes longer than the checks.
OPTIONS = {"resultTypes": ["violations"]}


def barriers(page, context=None):
    """(rule, impact, HTML of the first element) of each rule that the page, or an element of it, breaks."""
    found = Axe().run(page, context=context, options=OPTIONS).response["violations"]
    return [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found]


def serious_barriers(page, context=None):
    """Those with which somebody cannot use the page."""
    return [one for one in barriers(page, context) if one[1] in ("serious", "critical")]
