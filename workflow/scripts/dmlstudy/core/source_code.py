"""Reads the library's own source without importing it: parameters and code digests.

Planning a workflow must be quick. Importing a loss would import torch, which takes seconds.
"""

import ast
import atexit
import contextlib
import functools
import hashlib
import json
import re
from pathlib import Path

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError, read_json, write_text

PROGRAMS = Path(__file__).parents[2]

TEMPLATES = "dmlstudy/pages/templates"

# Modules that cannot change a number. Editing them must not train anything again. They are: the
# registry (see its docstring), the type of recipes (their values are params of the rules), progress
# output, what refuses a study, where on a machine a job runs, and how a job ends or gives way to a newer
# one.
NOT_FOLLOWED = {
    "dmlstudy.core.registry",
    "dmlstudy.plan.recipe",
    "dmlstudy.core.console",
    "dmlstudy.data.needs",
    "dmlstudy.track.live_curve",
    "dmlstudy.compute.memory",
    "dmlstudy.compute.gpu_slots",
    "dmlstudy.core.interruptions",
    "dmlstudy.core.ownership",
}


# A plan of a large study asks for the same modules tens of thousands of times.
@functools.cache
def _file_of(module):
    """The file of a library module, or None."""
    relative = Path(*module.split("."))
    for candidate in (
        PROGRAMS / relative.with_suffix(".py"),
        PROGRAMS / relative / "__init__.py",
    ):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _tree(path):
    return ast.parse(Path(path).read_text(encoding="utf-8"), filename=str(path))


def _docstrings(tree):
    """The ``id()`` of each statement in a tree that is a docstring."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(node.body[0])
        for node in ast.walk(tree)
        if isinstance(node, owners) and ast.get_docstring(node, clean=False) is not None
    }


def _describe(node, skipped):
    """A node as text. Empty fields are left out, so that all Python versions give the same text."""
    if isinstance(node, ast.AST):
        if id(node) in skipped:
            return ""
        fields = (
            (name, _describe(value, skipped))
            for name, value in ast.iter_fields(node)
            if name not in ("type_comment", "kind")
            and value is not None
            and value != []
            # Types and meanings of arguments change no number.
            and not (isinstance(node, ast.arg) and name == "annotation")
        )
        return f"{type(node).__name__}({','.join(f'{n}={v}' for n, v in fields)})"
    if isinstance(node, list):
        return f"[{','.join(filter(None, (_describe(item, skipped) for item in node)))}]"
    return repr(node)


def _imported(tree):
    """Library modules that a tree imports, anywhere in it (also inside functions), sorted."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return sorted(name for name in found if name.split(".")[0] == "dmlstudy")


@functools.cache
def _facts(path):
    """(digest of the code, names of library modules that it imports) of a file."""
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if content not in _remembered:
        tree = _tree(path)
        code = hashlib.sha256(_describe(tree, _docstrings(tree)).encode()).hexdigest()
        _remembered[content] = [code, _imported(tree)]
        _new.append(content)
    code, imported = _remembered[content]
    return code, tuple(name for name in imported if _file_of(name))


# {SHA-256 of a file: [digest of its code, library modules that it imports]}, and which of them are not in
# the memory's file.
_remembered = {}
_new = []


def remember_in(path):
    """Keep what was read from the source in a JSON file, so that the next start need not parse it again.

    Parsing all modules takes a quarter of a plan. An entry belongs to the content of a file, and the
    memory to the content of this one, so nothing in it can be out of date. A folder that cannot be
    written to has no memory.
    """
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        _remembered.update(read_json(path).get(own, {}))

    def save():
        if _new:
            with contextlib.suppress(OSError, StudyError):
                write_text(path, json.dumps({own: _remembered}))

    atexit.register(save)


def _templates(names):
    """Contents of page templates and of all templates that they name, sorted by name.

    ``names`` may be patterns, such as ``report*.html.j2``.
    """
    folder = PROGRAMS / TEMPLATES
    pending = [path.name for name in names for path in folder.glob(name)]
    found = {}
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = (folder / name).read_bytes()
            text = found[name].decode("utf-8")
            pending += re.findall(r'{%-? *(?:extends|include|from|import) "([^"]+)"', text)
    return [found[name] for name in sorted(found)]


def code_digest(program, *pieces, templates=()):
    """Digest of the code that a rule uses: 16 hexadecimal digits.

    It covers the program, the pieces of its recipe, and everything that these import. ``program``:
    file name of a program; ``pieces``: ``(piece, kind)`` pairs of the registry. Comments,
    docstrings and layout do not count. ``templates``: names or patterns of page templates; every
    byte of them counts, and of the templates that they extend, include or import.
    """
    modules = [registry.module_name(piece, kind) for piece, kind in pieces]
    own, imported = _facts(PROGRAMS / program)
    pending = [*modules, *imported]
    seen = {}
    while pending:
        module = pending.pop()
        if module in seen or module in NOT_FOLLOWED:
            continue
        path = _file_of(module)
        seen[module], imported = _facts(path)
        pending.extend(imported)
    lines = [own, *modules]
    lines += [f"{name} {seen[name]}" for name in sorted(seen)]
    lines += [hashlib.sha256(content).hexdigest() for content in _templates(templates)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@functools.cache
def parameters(piece, kind):
    """Keyword-only parameters of a registered ``build``: {name: (annotation as text, default)}.

    They are keys of the configuration. Raises ValueError if one lacks an annotation or a default
    that is a literal.
    """
    path = _file_of(registry.module_name(piece, kind))
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == "build":
            result = {}
            for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                if default is None or argument.annotation is None:
                    raise ValueError(
                        f"{path.name}: parameter {argument.arg!r} of build needs an annotation "
                        "and a literal default"
                    )
                annotation = ast.unparse(argument.annotation)
                result[argument.arg] = (annotation, ast.literal_eval(default))
            return result
    raise ValueError(f"{path.name}: has no function build")


def tree_of(piece, kind):
    """The parsed source of the module of a kind of a piece."""
    return _tree(_file_of(registry.module_name(piece, kind)))


@functools.cache
def constant(piece, kind, variable):
    """A module-level literal of a registered module, e.g. an augmentation's ``TRAIN_RESIZE``."""
    path = _file_of(registry.module_name(piece, kind))
    for node in _tree(path).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == variable for target in node.targets
        ):
            return ast.literal_eval(node.value)
    raise ValueError(f"{path.name}: has no {variable}")
