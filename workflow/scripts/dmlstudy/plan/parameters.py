"""Parameters of pieces: type, range, default and meaning, as their ``build`` functions state them.

A piece writes ``lr: Annotated[float, "> 0", "learning rate"] = 0.001``: a type, the range as
comparisons joined by commas (empty: any), and what the parameter is. It is read from the source, so
that planning imports no torch.
"""

import ast
import math
import operator
from dataclasses import dataclass

from dmlstudy.core import registry, source_code
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import plain, shown, without_quotes

COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
KEYWORDS = {
    ">": "exclusiveMinimum",
    ">=": "minimum",
    "<": "exclusiveMaximum",
    "<=": "maximum",
}
JSON_TYPES = {
    "float": "number",
    "int": "integer",
    "str": "string",
    "bool": "boolean",
    "None": "null",
}
TYPES = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,), "None": ()}


@dataclass(frozen=True)
class Parameter:
    """``type``: as written, e.g. ``float | None``; ``bounds``: e.g. ``((">", 0.0),)``."""

    type: str
    bounds: tuple
    meaning: str
    default: object

    @property
    def choices(self):
        """Values of a ``Literal``, or None for other types."""
        if self.type.startswith("Literal["):
            return ast.literal_eval(self.type.removeprefix("Literal"))
        return None

    @property
    def range(self):
        """The range in words, e.g. ``>= 0, < 1``; empty for any."""
        return ", ".join(f"{sign} {plain(bound)}" for sign, bound in self.bounds)

    @property
    def schema(self):
        """The values that it takes, as JSON schema."""
        if self.choices is not None:
            return {"enum": list(self.choices)}
        types = [JSON_TYPES[option.strip()] for option in self.type.split("|")]
        limits = {
            KEYWORDS[sign]: int(bound) if bound.is_integer() else bound
            for sign, bound in self.bounds
        }
        return {"type": types[0] if len(types) == 1 else types, **limits}

    def mistake(self, value):
        """What is wrong with ``value``, in words, or None."""
        value = self.cleaned(value)
        if self.choices is not None:
            if value in self.choices:
                return None
            return f"is {shown(value)}; must be one of {', '.join(map(repr, self.choices))}"
        if value is None and "None" in self.type:
            return None
        options = [option.strip() for option in self.type.split("|")]
        fits = any(
            isinstance(value, TYPES[option]) and (option == "bool") == isinstance(value, bool)
            for option in options
        )
        if not fits:
            return f"is {shown(value)}; must be of type {self.type}{without_quotes(value)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"is {value!r}; must be a finite number"
        if not all(COMPARISONS[sign](value, bound) for sign, bound in self.bounds):
            return f"is {shown(value)}; must be {self.range}"
        return None

    def cleaned(self, value):
        """``value``, a whole number as an int where an int is asked for (``42.0`` → 42)."""
        whole = isinstance(value, float) and value.is_integer()
        return int(value) if whole and self.type in ("int", "int | None") else value


def parse(annotation, default):
    """The `Parameter` of an annotation as text; ValueError if it does not follow the convention."""
    tree = ast.parse(annotation, mode="eval").body
    if not (isinstance(tree, ast.Subscript) and ast.unparse(tree.value) == "Annotated"):
        raise ValueError(
            f"is annotated with {annotation}; write Annotated[type, range, meaning], such as "
            'Annotated[float, "> 0", "temperature of the softmax"]'
        )
    type_, range_, meaning = tree.slice.elts
    bounds = []
    for comparison in filter(None, ast.literal_eval(range_).split(",")):
        sign, bound = comparison.split()
        bounds.append((sign, float(bound)))
    return Parameter(ast.unparse(type_), tuple(bounds), ast.literal_eval(meaning), default)


def parameters(piece, kind):
    """{name: `Parameter`} of a registered piece."""
    try:
        found = source_code.parameters(piece, kind)
    except ValueError as error:
        raise StudyError(f"{registry.module_name(piece, kind)}.build: {error}") from None
    result = {}
    for name, (annotation, default) in found.items():
        try:
            result[name] = parse(annotation, default)
        except ValueError as error:
            owner = f"{registry.module_name(piece, kind)}.build"
            raise StudyError(f"{owner}: parameter {name!r} {error}") from None
    return result
