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
    """A change of the index: ``what`` is enrolled, added, renamed or removed."""

    id: str
    time: str
    what: str
    class_id: int
    class_name: str
    source: str | None = None
    images: list[int] | None = None
    photographs: int | None = None
    before: str | None = None
    undoable: bool = True


class History(BaseModel):
    """Changes, oldest first. The newest one that is undoable is undone first."""

    changes: list[Change]


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
