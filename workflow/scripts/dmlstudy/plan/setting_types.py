"""Types of which the configuration is made: numbers with a range, names, seeds, sources."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from dmlstudy.core.addresses import expanded
from dmlstudy.core.names import shown

# The end of ranges without one of their own. Larger numbers are slips, and end inner libraries.
MOST = 1_000_000


def _whole(value):
    """``42.0`` is the whole number 42."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _source(value):
    texts = value if isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError("must be an address or a local path, or a list of addresses")
    return value


def _ending(bounds):
    return bounds if any(isinstance(one, (Le, Lt)) for one in bounds) else (*bounds, Le(MOST))


def whole(*bounds):
    """Type of a whole number within bounds; at most `MOST` if they have no end."""
    return Annotated[int, *_ending(bounds), BeforeValidator(_whole)]


def number(*bounds):
    """Type of a finite number within bounds; at most `MOST` if they have no end."""
    return Annotated[float, *_ending(bounds), AllowInfNan(False)]


def _different(values):
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"holds {shown(value)} twice")
    return values


def different(type_, *, least=0):
    """Type of a list of at least ``least`` values that all differ."""
    return Annotated[
        list[type_],
        Field(min_length=least, max_length=1000, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_different),
    ]


def _results_dir(value):
    """One spelling of a folder, since files are known by their path.

    ``..`` is kept where it leads out of the working directory. After a symbolic link it means the parent
    of the folder that the link points to.
    """
    path = expanded(value)
    if set(path) & set("{}"):
        raise ValueError("holds a brace, which Snakemake takes for a wildcard")
    plain = os.path.normpath(path)
    if os.path.realpath(plain) != os.path.realpath(path):
        plain = os.path.realpath(path)
    # POSIX allows two slashes at the beginning to mean something else.
    plain = "/" + plain.lstrip("/") if plain.startswith("//") else plain
    if plain in (".", "/"):
        raise ValueError("is no folder of its own; name a folder in it")
    for folder in (Path(plain), *Path(plain).parents):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cannot be a folder: {folder} is a file")
    return plain


def _pattern(text):
    """A regular expression with at least one group."""
    try:
        groups = re.compile(text).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not groups:
        raise ValueError("needs a group in parentheses: the part that photographs of a group share")
    return text


NAME, NAME_LENGTH = r"^[A-Za-z0-9][A-Za-z0-9_+.-]*$", 100
# Names become parts of the names of files, which end at 255 bytes.
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=NAME_LENGTH)]
# Names of other things, and what tables and pages show.
LINE = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\x9f]$"
Text = Annotated[str, StringConstraints(pattern=LINE)]
Folder = Annotated[str, StringConstraints(min_length=1), AfterValidator(_results_dir)]
LocalFile = Annotated[str, StringConstraints(min_length=1), AfterValidator(expanded)]
MD5, REVISION, SHA256 = (f"^[0-9a-f]{{{digits}}}$" for digits in (32, 40, 64))
GroupPattern = Annotated[str, AfterValidator(_pattern)]
# What a text must look like, in words.
PATTERNS = {
    NAME: "a name has letters, digits and _ + . - only, and begins with a letter or a digit",
    LINE: "must be text, on one line and without a blank at its end",
    MD5: "must be 32 hexadecimal digits in small letters",
    REVISION: "must be 40 hexadecimal digits in small letters",
    SHA256: "must be 64 hexadecimal digits in small letters",
}
# A random seed that every library takes: NumPy's RandomState ends at 2**32 - 1.
Seed = whole(Ge(0), Le(2**32 - 1))
Share = number(Gt(0), Lt(1))
Source = Annotated[
    Any,
    BeforeValidator(_source),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]
Piece = dict[str, Any]


class Strict(BaseModel):
    """A mapping with known keys only. Texts are not taken for numbers, nor numbers for texts."""

    model_config = ConfigDict(extra="forbid", strict=True)


class WeightsFile(Strict):
    """A file of weights. A path or address alone is short for a mapping with `source`."""

    source: Source | None = Field(
        None,
        description="A local file, an address, or a list of addresses that are tried in order. In place "
        "of the hub's, also a folder that holds the hub's file.",
    )
    sha256: Annotated[str, StringConstraints(pattern=SHA256)] | None = Field(
        None,
        description="SHA-256 of the file. A `file` at an address needs it; torchvision's and the hub's "
        "are known.",
    )
    revision: Annotated[str, StringConstraints(pattern=REVISION)] | None = Field(
        None,
        description="`published` weights of timm only: commit of the hub's repository. Default: the "
        "newest when they are downloaded, which is recorded beside them.",
    )


def _weights(value):
    return {"source": value} if isinstance(value, (str, list)) else value


Weights = Annotated[
    WeightsFile, BeforeValidator(_weights, json_schema_input_type=Source | WeightsFile)
]
