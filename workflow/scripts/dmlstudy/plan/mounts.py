"""Which paths a container must be shown so that a job in it finds what the host would find."""

from pathlib import Path

# What apptainer shows a job of Snakemake by itself: the working directory and these.
BY_ITSELF = (".", "/tmp", "/var/tmp")


def mounts(paths, shown):
    """The absolute paths to mount for ``paths``, given that the folders ``shown`` are mounted.

    A path through a symbolic link needs what the link points to, and an absolute path its own name as
    well. What is not there yet, such as a results folder, is mounted by its nearest parent that is.
    """
    shown = [Path(folder).resolve() for folder in shown]
    needed = {}
    for path in paths:
        for place in (Path(path).absolute(), Path(path).resolve()):
            while not place.exists():
                place = place.parent
            if not any(place.is_relative_to(folder) for folder in (*shown, *needed)):
                needed[place] = None
    return [str(place) for place in needed if place != Path("/")]


def binds(given, read, written, shown=BY_ITSELF):
    """apptainer's list of mounts: those ``given`` in it, the paths that jobs read and those they write.

    What is in the list stays as it is, so that the Snakemake of a job, which finds the list of the one
    that started it, adds nothing.
    """
    needed = [*(f"{path}:{path}:ro" for path in mounts(read, shown)), *mounts(written, shown)]
    return ",".join(dict.fromkeys([*filter(None, given.split(",")), *needed]))
