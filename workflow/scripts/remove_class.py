"""Remove a class from an index, with all of its photographs. Nothing is trained."""

import argparse
import os
import uuid
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.use.changed_index import ChangedIndex, add_options
from dmlstudy.use.gallery import check_removable, remove_class
from dmlstudy.use.kept_photographs import KeptPhotographs, files_folder
from dmlstudy.use.photographs import class_name_of


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument("--name", required=True, help="name of the class")
    add_options(parser)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        name = class_name_of(args.name)
        index = ChangedIndex(args)
        table = index.start.table()
        name = check_removable(table, index.start.metadata(), name)
        held = int((table["class_name"] == name).sum())
        kept, deleted = KeptPhotographs(files_folder(index.out.beside)), []

        def without(gallery):
            after = remove_class(gallery, name)
            kept.note(uuid.uuid4().hex, set(gallery.table["path"]) - set(after.table["path"]))
            return after

        gallery = index.change(without, lambda gallery: deleted.append(kept.tidy(gallery)))
        print(
            f"{index.out}: {name} is removed, with {held} photographs; the index has "
            f"{gallery.table['class_id'].nunique()} classes and {len(gallery.table)} images"
        )
        if any(deleted):
            print(f"{kept.photographs}: {deleted[0]} files that the service kept are deleted")

    console.run(work, args.log)


if __name__ == "__main__":
    main()
