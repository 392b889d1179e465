"""Export a finished run: ONNX, torch.export, safetensors, preprocessing as data, and a model card."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_input, check_output
from dmlstudy.use.export.place import check_replaceable
from dmlstudy.use.export.source import INDEX, read_source
from dmlstudy.use.run_folder import AND_CONFIGURATION, target


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, type=Path, help="folder that holds model.pt")
    parser.add_argument(
        "--out", type=Path, help="folder to write (RUN/export); an earlier export is replaced"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of the data set in the results (found from the study.json above the run)",
    )
    parser.add_argument("--log")
    args = parser.parse_args()
    out = args.run / "export" if args.out is None else args.out

    def work():
        check_output("--out", out, folder=True)
        check_replaceable("--out", out)
        if args.data is not None:
            check_input("--data", args.data, folder=True)
        source = read_source(args.run, args.data)
        try:
            # Imported here because torch takes seconds to start: report mistakes before.
            from dmlstudy.use.export.folder import write_export
        except ImportError as error:
            raise StudyError(
                f"{error.name} is not installed in this environment; bring it up to date with: make env"
            ) from None
        queries = len(source.embeddings["query_image_ids"])
        with console.Progress(queries + 1, "Checking", "queries") as progress:
            check = write_export(source, out.absolute(), progress)
        print(f"{out}: written and checked on {check['queries']} test queries")
        for name, outputs in check["differences"].items():
            for output, value in outputs.items():
                print(
                    f"{name}: {output} differs from torch by at most {value:.3g} (limit {check['limit']:g})"
                )
        if source.index is None:
            command = f"snakemake --cores all {target(args.run, INDEX)}{AND_CONFIGURATION}"
            print(f"no threshold is in it, because the run has no index; build one with: {command}")

    console.run(work, args.log)


if __name__ == "__main__":
    main()
