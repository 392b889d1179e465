"""Unpack a data set's archive safely; the folder appears whole or not at all."""

import argparse
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.data.archives import extract
from dmlstudy.data.downloads import check


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True)
    parser.add_argument("--out", required=True, help="folder to make")
    parser.add_argument("--contents", required=True, help="JSON file: number and bytes of files")
    parser.add_argument("--checksum", nargs="*", default=[], help="md5:… or sha256:…")
    parser.add_argument("--bytes", type=int, help="size that the archive must have")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        check(args.archive, dict(text.split(":", 1) for text in args.checksum), args.bytes)
        sizes = []
        extract(args.archive, args.out, progress=sizes.append)
        size = Path(args.archive).stat().st_size
        write_json(args.contents, {"files": len(sizes), "bytes": sum(sizes), "archive_bytes": size})

    console.run(work, args.log)


if __name__ == "__main__":
    main()
