"""Unpack the archive of a data set safely. The folder appears complete or not at all."""

import argparse
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.data.archives import extract
from dmlstudy.data.downloads import check


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True)
    parser.add_argument("--out", required=True, help="folder to create")
    parser.add_argument(
        "--contents", required=True, help="JSON file to write: number and total bytes of the files"
    )
    parser.add_argument("--checksum", nargs="*", default=[], help="md5:… or sha256:…")
    parser.add_argument("--bytes", type=int, help="expected size of the archive")
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
