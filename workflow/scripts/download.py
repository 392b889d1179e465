"""Download the archive of a data set and verify it. An interrupted download is continued."""

import argparse

from dmlstudy.core import console
from dmlstudy.core.files import write_digest
from dmlstudy.data.downloads import download


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", nargs="+", required=True, help="addresses, tried in order")
    parser.add_argument("--checksum", nargs="*", default=[], help="md5:… or sha256:…")
    parser.add_argument("--bytes", type=int, help="expected size of the archive")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        checksums = dict(text.split(":", 1) for text in args.checksum)
        with console.Transfer("download") as progress:
            download(args.url, args.out, checksums, size=args.bytes, progress=progress)
        write_digest(args.out)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
