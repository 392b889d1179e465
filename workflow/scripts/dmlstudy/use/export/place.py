"""The files of an export, and where they may be written. Torch is not imported here."""

from pathlib import Path

from dmlstudy.core.files import StudyError

ONNX, PROGRAM, WEIGHTS = "model.onnx", "model.pt2", "model.safetensors"
# Where ONNX keeps weights that do not fit into one file.
ONNX_DATA = f"{ONNX}.data"
# What is in the folder, for the card.
FILES = {
    ONNX: "the network, for ONNX Runtime and other runtimes; input `images`, output `embeddings`",
    PROGRAM: "the same as a program of `torch.export`",
    WEIGHTS: "its weights alone",
    "preprocessing.json": "how a photograph becomes the input",
    "classes.json": "names of the classes, and which of them the model was not trained on",
    "gallery.npz": "embeddings of the training images, with class ids: what photographs are compared with",
    "thresholds.json": "below which similarity a photograph is unknown, and what was measured",
    "check.json": "what the export was checked against",
    "example.py": "names photographs; the code at the end of this page",
    "model_card.md": "this page",
}


def check_replaceable(option, folder):
    """Raise StudyError if a folder holds anything but an export: writing would remove it."""
    folder = Path(folder)
    if folder.is_symlink():
        raise StudyError(f"{option} {folder}: this is a link; give the path of a folder")
    if not folder.is_dir():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in (*FILES, ONNX_DATA))
    if others:
        raise StudyError(
            f"{option} {folder}: this folder holds other files ({', '.join(others[:3])}), which an export "
            "would replace; choose another folder"
        )
