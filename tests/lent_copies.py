"""Copies of a folder that tests borrow in turn: only what a test has changed is copied again.

A finished study takes 600 MB in a thousand files, and a hundred tests want one for themselves.
"""

import os
import shutil
import stat
from pathlib import Path


class Copies:
    """Copies of entries of a folder; ``store``: a new folder on the same disk for those that nobody uses."""

    def __init__(self, original, names, store):
        self.original, self.names, self.store = Path(original), names, Path(store)
        # What each copy was when it was made: [{path below the copy: its `state`}].
        self.unused, self.lent, self.made = [], {}, 0

    def take(self, folder):
        """Lend a copy, as the new folder ``folder``."""
        folder = Path(folder)
        if self.unused:
            place, known = self.unused.pop()
            place.rename(folder)
            self.mend(folder, known)
        else:
            for name in self.names:
                self.copy(name, folder)
        self.lent[folder] = states(folder)
        return folder

    def give_back(self, folder):
        """Take a copy back, whatever was done to it."""
        self.made += 1
        place = self.store / str(self.made)
        self.store.mkdir(exist_ok=True)
        folder.rename(place)
        self.unused.append((place, self.lent.pop(folder)))

    def copy(self, name, folder):
        source, target = self.original / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)

    def mend(self, folder, known):
        """Make a copy what it was: ``known``."""
        found = states(folder)
        for name in sorted(found.keys() - known.keys()) + changed(found, known):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():
                path.unlink()
        for name in known:
            if not os.path.lexists(folder / name):
                self.copy(name, folder)
        # Last, because each change above changes the folder that holds it.
        for name, (kind, mode, mtime, *_) in known.items():
            if kind == stat.S_IFDIR:
                os.chmod(folder / name, mode)
                os.utime(folder / name, ns=(mtime, mtime))


def changed(found, known):
    """Paths of ``known`` that are there and differ; of a folder only its kind counts."""
    both = [name for name in known if name in found]
    folder = stat.S_IFDIR
    return [
        name
        for name in both
        if found[name] != known[name] and not found[name][0] == known[name][0] == folder
    ]


def states(folder):
    """{path below the folder: kind, permissions, time and, of a file, all that a change of it would alter}."""
    found = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(parent, name)
            one = os.lstat(path)
            state = stat.S_IFMT(one.st_mode), stat.S_IMODE(one.st_mode), one.st_mtime_ns
            if not stat.S_ISDIR(one.st_mode):
                # Programs can set the time of a file's content, but not this one.
                state += one.st_ctime_ns, one.st_ino, one.st_size
            found[os.path.relpath(path, folder)] = state
    return found
