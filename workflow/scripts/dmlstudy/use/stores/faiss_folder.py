"""An index as a folder with a FAISS file: the default store. A change writes a new folder in place of the old."""

from pathlib import Path

from dmlstudy.use.gallery import only_classes
from dmlstudy.use.index_files import (
    check_gallery,
    check_replaceable,
    exclusive_access,
    index_stamp,
    read_gallery,
    read_table,
    write_gallery,
)
from dmlstudy.use.stores.store import Store


class FaissFolder(Store):
    """The index folder ``folder``; `index_files` says what is in it."""

    def __init__(self, folder, model):
        self.folder = Path(folder)
        super().__init__(Path(model), self.folder)

    def __str__(self):
        return str(self.folder)

    def exists(self):
        return self.folder.exists()

    def check(self):
        check_replaceable(self.folder)

    def metadata(self):
        return check_gallery(self.folder, self.model)

    def table(self):
        return read_table(self.folder)

    def stamp(self):
        return index_stamp(self.folder)

    def read(self):
        return read_gallery(self.folder, self.model)

    def changing(self):
        return exclusive_access(self.folder)

    def write(self, gallery):
        write_gallery(self.folder, gallery)

    def near(self, embeddings, count, only=None):
        return only_classes(self.read(), only)
