"""Put the files of a data set together: archives are unpacked into one folder, other files join them."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from dmlstudy.core.files import StudyError, temporary_path, writing
from dmlstudy.data.archive_kinds import describe
from dmlstudy.data.archives import extract

ARCHIVES = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")


def is_archive(name):
    """Whether a file is unpacked, by its name in ``dataset.files``."""
    return name.lower().endswith(ARCHIVES)


def gather(files, folder, *, progress=None):
    """Make ``folder`` from ``files`` ({name: path}); it appears complete or not at all.

    Archives (see `is_archive`) are unpacked as `archives.extract` does. Each other file lies in the
    folder under its name. ``progress(bytes)`` is called after each file of the result. Raises StudyError
    as `extract` does, and where two of the files hold something under one path.
    """
    folder = Path(folder)
    temporary = temporary_path(folder)
    whole, part = temporary / "whole", temporary / "part"
    whole.mkdir(parents=True)
    try:
        for name, path in files.items():
            if is_archive(name):
                _refuse_other(name, path)
                extract(path, part, progress=progress)
            else:
                part.mkdir()
                with writing(folder):
                    shutil.copyfile(path, part / name)
                if progress:
                    progress(os.path.getsize(path))
            _merge(part, whole, name)
            shutil.rmtree(part)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(whole, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_other(name, path):
    """Raise StudyError if a file is no archive although its name says so."""
    if not (tarfile.is_tarfile(path) or zipfile.is_zipfile(path)):
        raise StudyError(
            f"{path}: neither a zip nor a tar archive, as its name {name} in dataset.files says; it is "
            f"{describe(path)}"
        )


def _merge(source, target, name, inner=""):
    """Move everything in ``source`` into ``target``. ``name``: the file that it comes from."""
    for entry in sorted(os.listdir(source)):
        here, there = source / entry, target / entry
        if not os.path.lexists(there):
            os.rename(here, there)
        elif here.is_dir() and there.is_dir():
            _merge(here, there, name, f"{inner}{entry}/")
        else:
            raise StudyError(
                f"{name}: holds {inner}{entry}, which another one of dataset.files holds as well"
            )
