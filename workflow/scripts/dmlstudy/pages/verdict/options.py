"""The rows of verdict.csv and verdict_costs.csv, as one list of options."""

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.evaluate.verdict import (
    BACKBONE,
    ENROLLED,
    HEAD,
    HEAD_TRAINED,
    NOTHING,
    RETRAINED,
)
from dmlstudy.evaluate.verdict_costs import KEYS

# In the order of what is trained.
GROUPS = (
    (NOTHING, ENROLLED),
    (HEAD, ENROLLED),
    (HEAD, HEAD_TRAINED),
    (BACKBONE, ENROLLED),
    (BACKBONE, RETRAINED),
)


class Options:
    """All options. ``rows``: dictionaries, with the columns of both tables, in the order of the tables.

    ``verdict``, ``costs``: the tables, read with empty cells as NaN. Raises StudyError if they do not have the
    same rows.
    """

    def __init__(self, verdict, costs):
        keys = [table[KEYS].astype(str).to_numpy().tolist() for table in (verdict, costs)]
        if keys[0] != keys[1]:
            raise StudyError(
                "verdict.csv and verdict_costs.csv have different rows; make both again with: "
                "snakemake … --forcerun compare"
            )
        pairs = zip(verdict.to_dict("records"), costs.to_dict("records"), strict=True)
        self.rows = [{**cost, **own, "photographs": str(own["photographs"])} for own, cost in pairs]

    @property
    def whole(self):
        """Options with all photographs of each unseen class."""
        return [row for row in self.rows if row["photographs"] == ALL]

    @property
    def photographs(self):
        """Numbers of photographs as texts, ascending, ``all`` last."""
        found = {row["photographs"] for row in self.rows}
        return sorted(found, key=lambda text: (text == ALL, 0 if text == ALL else int(text)))

    def speaker(self, trained, new_classes, photographs=ALL):
        """The option that speaks for its group, or None."""
        return next(
            (
                row
                for row in self.rows
                if row["chosen"]
                and (row["trained"], row["new_classes"], row["photographs"])
                == (trained, new_classes, photographs)
            ),
            None,
        )

    def enrolled(self, photographs=ALL):
        """The best option that only enrols, whatever was trained before; None if there is none."""
        found = (
            self.speaker(trained, new, photographs) for trained, new in GROUPS if new == ENROLLED
        )
        return max(
            (row for row in found if row), key=lambda row: row["harmonic_mean"], default=None
        )

    def again(self):
        """The options that are trained with the unseen classes and speak for their group."""
        found = (self.speaker(trained, new) for trained, new in GROUPS if new != ENROLLED)
        return [row for row in found if row]
