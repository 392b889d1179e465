"""Get torchvision's ImageNet weights of a backbone, from the network or a local file, and verify them."""

import argparse
import shutil
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, atomic_path, write_digest
from dmlstudy.data.downloads import check, download
from dmlstudy.data.weights import published_weights


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", required=True)
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--local", help="local file that takes the place of the download")
    place.add_argument(
        "--url", nargs="+", help="addresses to try in order in place of torchvision's"
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        url, prefix = published_weights(args.arch)
        if not args.local:
            with console.Transfer(args.arch) as progress:
                download(args.url or url, args.out, {"sha256": prefix}, progress=progress)
        elif not Path(args.local).is_file():
            raise StudyError(f"{args.local}: not there; it should be a copy of {url}")
        else:
            check(args.local, {"sha256": prefix})
            with atomic_path(args.out) as temporary:
                shutil.copyfile(args.local, temporary)
        write_digest(args.out)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
