"""Does the demo show real effects, or noise? Runs it with several seeds and prints its results.

    .venv/bin/python benchmarks/demo_study.py [--seeds 42 43 44] [--precision float32]

Uses the demo's configuration with more seeds and a separate results folder. All numbers are read from
comparison/experiments.csv and health.csv there. Takes the time of the demo for each seed.
"""

import argparse
import platform
import subprocess
import sys
import time

import pandas as pd
import yaml
from measuring import PROJECT, processor


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44])
    parser.add_argument("--only", nargs="+", help="experiments to run (all)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="default: the demo's")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--results", default="results/benchmarks/demo_study")
    args = parser.parse_args()

    folder = PROJECT / args.results
    folder.mkdir(parents=True, exist_ok=True)
    overlay = folder / "seeds.yaml"
    settings = {"results_dir": args.results, "protocol": {"seeds": args.seeds}}
    if args.precision:
        settings["protocol"]["precision"] = args.precision
    settings |= {"only": args.only} if args.only else {}
    overlay.write_text(yaml.safe_dump(settings))
    # Only the tables, no pages.
    tables = [f"{args.results}/comparison/{name}.csv" for name in ("experiments", "health")]
    command = [sys.executable, "-m", "snakemake", *tables]
    command += ["--cores", args.cores, "--quiet", "all"]
    command += ["--configfile", "config/demo.yaml", str(overlay)]
    begun = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=True)
    minutes = (time.perf_counter() - begun) / 60

    table = pd.read_csv(folder / "comparison" / "experiments.csv").set_index("experiment")
    baseline = table["baseline"].iloc[0]
    row = table.loc[baseline]
    trained = table[~table["details"].str.startswith("untrained")].drop(baseline)
    untrained = table[table["details"].str.startswith("untrained")]
    untrained = untrained.loc[untrained.index.str.endswith("resnet18")].iloc[0]
    scratch = table.loc[[name for name in table.index if "scratch" in name]].iloc[0]

    print(f"\n{len(args.seeds)} seeds {args.seeds}, {int(row['queries'])} queries in a gallery of "
          f"{int(row['gallery'])}, {int(row['classes'])} classes, {int(row['unseen_classes'])} unseen")  # fmt: skip
    print(f"{processor()}, Python {platform.python_version()}, {minutes:.1f} minutes\n")
    shown = pd.DataFrame(
        {
            "P@1 %": 100 * table["precision_at_1"],
            "± seeds": 100 * table["precision_at_1_spread"],
            "drop unseen": 100 * table["precision_drop_unseen_classes"],
            "drop seen": 100 * table["precision_drop_seen_classes"],
            "to baseline": 100 * table["difference_to_baseline"],
            "low": 100 * table["difference_to_baseline_low"],
            "high": 100 * table["difference_to_baseline_high"],
        }
    )
    print(shown.round(1).to_string(na_rep=""))
    health = pd.read_csv(folder / "comparison" / "health.csv")
    warnings = health[health["finding"] == "warning"]
    for found in warnings.itertuples():
        print(f"{found.experiment}, {found.class_set}, seed {found.seed}: {found.sentence}")

    differing = trained[
        (trained["difference_to_baseline_low"] > 0) | (trained["difference_to_baseline_high"] < 0)
    ]
    gain, low = -untrained["difference_to_baseline"], -untrained["difference_to_baseline_high"]
    checks = {
        f"baseline {100 * gain:+.1f} points over its untrained row (at least 5)": gain >= 0.05,
        f"its interval begins at {100 * low:+.1f} (above 0)": low > 0,
        f"baseline at {100 * row['precision_at_1']:.1f} % (below 90)": row["precision_at_1"] < 0.9,
        f"drop on unseen classes {100 * row['precision_drop_unseen_classes']:.1f} points (above 0)":
            row["precision_drop_unseen_classes"] > 0,
        f"scratch {100 * scratch['difference_to_baseline']:+.1f} points against it (below 0)":
            scratch["difference_to_baseline_high"] < 0,
        f"{len(differing)} experiments differ beyond their interval (at least 4)": len(differing) >= 4,
        f"{len(warnings)} warnings of the signs of health (none)": warnings.empty,
    }  # fmt: skip
    print()
    for text, holds in checks.items():
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {text}")
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
