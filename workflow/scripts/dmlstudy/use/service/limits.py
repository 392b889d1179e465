"""What a service accepts: sizes, counts and times. Beyond them it answers with a sentence and goes on."""

from dataclasses import dataclass

from dmlstudy.use.photographs import MAX_PIXELS

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """``photographs``: of one request; ``megabytes``: of one request; ``photograph_megabytes``: of one
    file; ``pixels``: of one photograph; ``waiting``: photographs that may wait to be embedded; ``requests``:
    requests at once; ``silence``: seconds without a byte from a client, or without a client that reads;
    ``upload``: seconds for a whole request; ``answer``: seconds until a request that waits is given up;
    ``doubts``: doubtful answers that are kept; ``logged``: answers in the log."""

    photographs: int = 200
    megabytes: int = 200
    photograph_megabytes: int = 30
    pixels: int = MAX_PIXELS
    waiting: int = 400
    requests: int = 64
    silence: float = 10
    upload: float = 300
    answer: float = 120
    doubts: int = 200
    logged: int = 100_000
