"""Write docs/results.md, its pictures and the README's block from the studies kept in docs/results/.

With --add, first copy the small tables of a finished study there.
"""

import argparse
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.pages.results import page
from dmlstudy.pages.results.kept import kept_studies

PROJECT = Path(__file__).resolve().parents[2]


def written(project):
    """{path: text} of everything that this program writes, from the studies kept in ``project``."""
    docs, readme = project / "docs", project / "README.md"
    studies = kept_studies(docs / "results")
    found = {docs / name: text for name, text in page.documents(studies).items()}
    found[readme] = page.with_block(readme.read_text(encoding="utf-8"), page.readme_block(studies))
    return found


def stale(project):
    """Paths of files whose text is not what this program would write."""
    return [
        path
        for path, text in written(project).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", help="results folder of a finished study, such as results/cub")
    parser.add_argument("--name", help="its name in docs/results/; default: that of its folder")
    parser.add_argument(
        "--project",
        type=Path,
        default=PROJECT,
        help="folder with README.md and docs/; default: this",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is stale"
    )
    args = parser.parse_args()

    def work():
        if args.add:
            # Only here, because it takes a second to import.
            from dmlstudy.pages.results.keeping import keep
            from dmlstudy.pages.results.protocol import Published

            name = args.name or Path(args.add).resolve().name
            folder = args.project / "docs" / "results" / name
            keep(args.add, folder, Published.read(PROJECT / "config"))
            print(folder)
        if args.check:
            found = [path.relative_to(args.project).as_posix() for path in stale(args.project)]
            if found:
                raise StudyError(f"{', '.join(found)}: stale; run `make results`")
            return
        for path, text in written(args.project).items():
            write_text(path, text)
            print(path)

    console.run(work)


if __name__ == "__main__":
    main()
