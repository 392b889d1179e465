"""Files of backbone weights, whoever wrote them.

The format, PyTorch's or safetensors, is found from the content. Weights may be bare or in a container
(``state_dict``, ``model``, ``teacher``, …), and their names may have prefixes of other programs
(``module.``, ``backbone.``, ``encoder.``, …). The place with the most of the backbone's own names is
used. Nothing is unpickled.
"""

import argparse
import difflib
import logging
from collections import Counter
from pathlib import Path

import torch

from dmlstudy.core.files import StudyError

# If containers hold equally many names, these come first: a teacher (the network that self-distillation
# evaluates) and averaged weights.
PREFERRED = ("teacher", "state_dict_ema", "model_ema", "ema")
# Depth to which nested containers are searched.
DEPTH = 3
# Number of left-out keys that a log line names.
NAMED = 4


def load_backbone_weights(backbone, path):
    """Load a file's weights into a `Backbone`; a classifier's weights are left out and named in the log.

    BatchNorm's counters of batches may be missing, as in files from before torchvision 0.3; they start at 0.
    Raises StudyError that names the file and the first key or shape that does not fit.
    """
    own = backbone.module.state_dict()
    state, place, outside = _found(read_weights(path), own.keys())
    classifier = _take_classifier(state, own, backbone)
    if not _fits(state, own):
        try:
            state = _with_counters(backbone.adapt(state), own)
        except StudyError as error:
            raise StudyError(f"{path}: {error}") from None
        # Names of another library become the backbone's own only here, those of a classifier too.
        classifier += _take_classifier(state, own, backbone)
        _check(path, state, own)
    backbone.module.load_state_dict(_with_counters(state, own))
    if place:
        logging.info("%s: its weights are under %s", path, place)
    for what, keys in (("the classifier", classifier), ("other parts", outside)):
        if keys:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            logging.info("%s: left out %s: %s%s", path, what, ", ".join(keys[:NAMED]), more)


def _take_classifier(state, own, backbone):
    """Remove the classifier's weights from ``state``; returns their names."""
    taken = [key for key in state if key not in own and key.startswith(backbone.classifier)]
    for key in taken:
        del state[key]
    return taken


def read_weights(path):
    """What a file of weights holds: a dictionary, its tensors on the CPU.

    Raises StudyError for a file that is missing, has another format, or holds more than tensors and
    plain values.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            begin = stream.read(9)
            if _is_safetensors(begin, path.stat().st_size):
                # Here, since machines without such files need not have the package.
                from safetensors.torch import load_file

                return load_file(path)
            stream.seek(0)
            # Many programs store their options in a Namespace, which holds plain values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                # A stream, since torch chooses the format of a path by its name.
                content = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StudyError(f"{path}: missing") from None
    except Exception as error:
        # Both libraries raise all kinds of errors for a broken file.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise StudyError(
            f"{path}: not a file of weights that can be loaded safely: {reason}"
        ) from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: holds a {type(content).__name__}, not a dictionary of weights")
    return content


def _is_safetensors(begin, size):
    """Whether a file that begins so holds the length of a JSON header and then the header."""
    return begin[8:9] == b"{" and int.from_bytes(begin[:8], "little") <= size - 8


def _containers(value, name="", depth=DEPTH):
    """(name, dictionary with tensors) of a dictionary and of those in it."""
    if any(isinstance(item, torch.Tensor) for item in value.values()):
        yield name, value
    if depth:
        for key, item in value.items():
            if isinstance(item, dict):
                yield from _containers(item, f"{name}.{key}" if name else str(key), depth - 1)


def _prefix(state, own):
    """(count, prefix): the prefix with which most keys of ``state`` are own keys; ties: the first."""
    counted = Counter()
    for key in state:
        parts = str(key).split(".")
        for start in range(len(parts)):
            if ".".join(parts[start:]) in own:
                counted["".join(f"{part}." for part in parts[:start])] += 1
    if not counted:
        return 0, ""
    prefix, count = counted.most_common(1)[0]
    return count, prefix


def _found(content, own):
    """Find the weights: ({key: value}, description of the place, keys outside of it)."""
    own = set(own)
    best = None
    for name, state in _containers(content):
        count, prefix = _prefix(state, own)
        last = name.rpartition(".")[2]
        rank = -PREFERRED.index(last) if last in PREFERRED else -len(PREFERRED)
        if best is None or (count, rank) > best[0]:
            best = (count, rank), name, prefix, state
    if best is None:
        return {}, "", []
    _, name, prefix, state = best
    inside, outside = {}, []
    for key, value in state.items():
        key = str(key)
        short = key.removeprefix(prefix)
        # Numbers and texts may stand between weights.
        weight = isinstance(value, torch.Tensor) or short in own
        if key.startswith(prefix) and weight:
            inside[short] = value
        else:
            outside.append(key)
    return inside, " ".join(filter(None, (name, prefix and f"{prefix}…"))), outside


def _with_counters(state, own):
    missing = {
        key: value
        for key, value in own.items()
        if key not in state and key.endswith("num_batches_tracked")
    }
    return {**state, **missing}


def _fits(state, own):
    state = _with_counters(state, own)
    return state.keys() == own.keys() and all(_shape(state[k]) == v.shape for k, v in own.items())


def _shape(value):
    return value.shape if isinstance(value, torch.Tensor) else None


def _check(path, state, own):
    """Raise StudyError that names the first key or shape that does not fit."""
    for key, value in own.items():
        if key not in state:
            hint = _nearest(key, state.keys() - own.keys(), "the nearest in the file is")
            raise StudyError(
                f"{path}: {key} is missing{hint}; are these weights of another backbone?"
            )
        if _shape(state[key]) != value.shape:
            found = _shape(state[key])
            found = type(state[key]).__name__ if found is None else tuple(found)
            raise StudyError(f"{path}: {key} is {found}, not {tuple(value.shape)}")
    for key in state:
        if key not in own:
            hint = _nearest(key, own, "the nearest of its own is")
            raise StudyError(f"{path}: {key} does not belong to this backbone{hint}")


def _nearest(key, others, words):
    nearest = difflib.get_close_matches(key, others, 1)
    return f" ({words} {nearest[0]})" if nearest else ""
