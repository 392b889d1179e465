"""What the API answers, for its description (OpenAPI). All similarities are cosine similarities."""

from pydantic import BaseModel


class Vote(BaseModel):
    class_name: str
    votes: int
    voters: int


class Neighbour(BaseModel):
    image_id: int
    class_id: int
    class_name: str
    similarity: float
    path: str


class Answer(BaseModel):
    """One photograph: an answer, or the problem with it. ``class_name`` is null if it is unknown."""

    photograph: str
    problem: str | None = None
    class_name: str | None = None
    known: bool | None = None
    similarity: float | None = None
    distance: float | None = None
    threshold: float | None = None
    probability: float | None = None
    vote: Vote | None = None
    nearest: list[Neighbour] = []
    why: str | None = None
    doubtful: str | None = None
    doubt_id: str | None = None


class Answers(BaseModel):
    answers: list[Answer]


class EnrolledClass(BaseModel):
    class_id: int
    class_name: str
    photographs: int
    image_id: int
    of_data_set: bool
    since: str | None
    source: str


class Classes(BaseModel):
    classes: list[EnrolledClass]


class Change(BaseModel):
    """A change of the index: ``what`` is enrolled, added, renamed, removed or "threshold for … chosen"."""

    id: str
    time: str
    what: str
    class_id: int | None = None
    class_name: str | None = None
    source: str | None = None
    images: list[int] | None = None
    photographs: int | None = None
    before: str | None = None
    undoable: bool = True


class History(BaseModel):
    """Changes, oldest first. The newest one that is undoable is undone first."""

    changes: list[Change]


class Removed(BaseModel):
    """``classes``: whose removal can be undone; ``photographs``: files that are kept and belong to no class."""

    classes: list[str]
    photographs: int


class Doubt(Answer):
    time: float


class Doubts(BaseModel):
    doubts: list[Doubt]


class Name(BaseModel):
    class_name: str


class Problem(BaseModel):
    """What is wrong, in a sentence."""

    detail: str


class Rates(BaseModel):
    enrolled: float
    low: float
    high: float
    not_enrolled: float


class Threshold(BaseModel):
    """A threshold that the study judged. ``accepted_share``: wanted share of enrolled classes that pass."""

    accepted_share: float
    similarity: float
    rates: Rates | None
    in_words: str
    in_use: bool


class Thresholds(BaseModel):
    thresholds: list[Threshold]


class WantedShare(BaseModel):
    accepted_share: float


class Sign(BaseModel):
    """``sign``: similarities, unknown or class; ``doubts``: doubtful answers that show it."""

    sign: str
    warns: bool
    sentence: str
    newest: float
    before: float
    p_value: float
    doubts: list[str]


class CurvePoint(BaseModel):
    time: float
    answers: int
    similarity: float
    unknown: float


class Drift(BaseModel):
    """How the newest answers differ from those before; ``needed``: answers until that can be told."""

    answers: int
    newest: int
    before: int
    needed: int
    signs: list[Sign]
    curve: list[CurvePoint]
    problem: str | None


class LimitsOfRequests(BaseModel):
    photographs: int
    megabytes: int
    photograph_megabytes: int


class Status(BaseModel):
    run: str
    data: str
    images: int
    classes: int
    threshold: float
    threshold_chosen: str
    rates: Rates | None
    rates_in_words: str
    waiting: int
    doubts: int
    limits: LimitsOfRequests
