"""Where an export may be written. Torch is not imported here."""

from pathlib import Path

from dmlstudy.core.files import StudyError

# Of `folder.FILES`, and the file that holds the weights of a large network.
NAMES = {
    "model.onnx",
    "model.onnx.data",
    "model.pt2",
    "model.safetensors",
    "preprocessing.json",
    "classes.json",
    "gallery.npz",
    "thresholds.json",
    "check.json",
    "example.py",
    "model_card.md",
}


def check_replaceable(option, folder):
    """Raise StudyError if a folder holds anything but an export: writing would remove it."""
    folder = Path(folder)
    if folder.is_symlink():
        raise StudyError(f"{option} {folder}: this is a link; give the path of a folder")
    if not folder.is_dir():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in NAMES)
    if others:
        raise StudyError(
            f"{option} {folder}: this folder holds other files ({', '.join(others[:3])}), which an export "
            "would replace; choose another folder"
        )
