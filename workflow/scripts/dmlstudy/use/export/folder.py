"""The folder of an export: written whole or not at all."""

import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.devices import prepare
from dmlstudy.compute.embedding_model import CPU
from dmlstudy.core.files import file_digest, temporary_path, write_json, write_text, writing
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.use.export.card import model_card
from dmlstudy.use.export.checking import LIMIT, check_networks
from dmlstudy.use.export.licence import licence
from dmlstudy.use.export.networks import load_exported, write_networks
from dmlstudy.use.export.place import FILES, ONNX, ONNX_DATA
from dmlstudy.use.export.preprocessing import preprocessing
from dmlstudy.use.export.source import check_classes, classes, gallery, thresholds
from dmlstudy.use.replacing import put_back, replace_folder


def write_export(source, folder, progress=None):
    """Write the export of a `Source` to ``folder``, an earlier export being replaced; returns check.json.

    ``progress(count)`` is called as queries are checked. Raises StudyError if the network cannot be exported,
    or if a file does not compute what torch computes; nothing is left then.
    """
    folder = Path(folder)
    model, stored = load_exported(source.run / "model.pt")
    check_classes(source, stored)
    recipe = stored["recipe"]
    prepare(CPU, recipe["compute_threads"])
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        put_back(folder)
        temporary = temporary_path(folder)
        temporary.mkdir()
        try:
            write_networks(model, recipe["image_size"], temporary)
            check = _checked(source, temporary, model, stored, progress)
            limits = thresholds(source)
            write_json(temporary / "preprocessing.json", preprocessing(stored))
            write_json(temporary / "classes.json", classes(source, model.classifier is not None))
            write_json(temporary / "thresholds.json", limits)
            write_json(temporary / "check.json", check)
            np.savez(temporary / "gallery.npz", **gallery(source))
            example = Path(__file__).with_name("example.py").read_text(encoding="utf-8")
            write_text(temporary / "example.py", example)
            listed = list(FILES.items())
            if (temporary / ONNX_DATA).exists():
                listed.insert(1, (ONNX_DATA, f"weights of `{ONNX}`; keep it beside that file"))
            card = model_card(
                source, stored, licence(source, recipe["backbone"]), listed, check, limits
            )
            write_text(temporary / "model_card.md", card)
            replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return check


def _checked(source, folder, model, stored, progress):
    """The content of check.json; StudyError as `check_networks`."""
    recipe, embeddings = stored["recipe"], source.embeddings
    images = ImageBatches(
        Pack(source.pack(stored["test_resize"])),
        recipe["image_size"],
        CPU,
        mean=stored["mean"],
        std=stored["std"],
    )
    rows, threads = embeddings["query_image_ids"], recipe["compute_threads"]
    differences, found = check_networks(folder, model, images, rows, threads, progress)
    nearest = [
        nearest_neighbours(
            queries,
            embeddings["gallery_embeddings"],
            ids=embeddings["gallery_image_ids"],
            threads=threads,
        )[1][:, 0]
        for queries in (found, embeddings["query_embeddings"])
    ]
    return {
        "limit": LIMIT,
        "queries": len(rows),
        "differences": differences,
        "stored_embeddings": {
            "precision": recipe["precision"],
            "difference": float(np.abs(found - embeddings["query_embeddings"]).max()),
            "same_nearest": int((nearest[0] == nearest[1]).sum()),
        },
        "model_sha256": file_digest(source.run / "model.pt"),
        "versions": {
            name: version(name) for name in ("torch", "onnx", "onnxruntime", "onnxscript")
        },
    }
