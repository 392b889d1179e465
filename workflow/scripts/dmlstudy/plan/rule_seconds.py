"""How long jobs of a rule take in proportion to each other, until a study has measured them itself.

Seconds on two cores, of the tests' study (36 small images). Once jobs of any rule were measured, all
others count by the same ratio; once jobs of a rule were measured, these are not used for it.
"""

SECONDS = {}
OTHER = 2.0


def usual_seconds(rule):
    """Seconds of a job of a rule that trains nothing."""
    return SECONDS.get(rule, OTHER)
