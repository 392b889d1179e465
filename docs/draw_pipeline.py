"""Write docs/pipeline.md: a diagram of the rules, drawn from the rules themselves, and a table of them."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "pipeline.md"
# Together these use every rule: downloads, selections and stored features, drawn data, what is made on request.
TARGETS = ["all", "check_data", "suspected_labels"]
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
# A folder that nothing writes to: results that exist belong to one data set and split.
RESULTS = "results/pipeline"
TARGETS.append(f"{RESULTS}/experiments/EPSHN_cosine_resnet18_sgd_aug/seed42/all_classes/index")
# (configuration, further values, targets).
STUDIES = [
    ("config/extended.yaml", [], TARGETS),
    ("config/frozen.yaml", [], TARGETS),
    ("config/demo.yaml", [], TARGETS),
    ("config/demo.yaml", ["protocol={duplicates: together}"], TARGETS),
    ("config/quick.yaml", [], ["quick"]),
]
HEADER = """# The pipeline

This page shows the rules of the workflow and which rule needs the outputs of which. `make docs` writes it
from the rules; do not edit it by hand.

An arrow goes from a rule to one that reads its outputs. Arrows that follow from others are left out. A box
is a file of `workflow/rules/`.

"""


def rules():
    """Every rule as {name: (file, message)}, in the order of the Snakefile's includes."""
    found = {}
    snakefile = (PROJECT / "Snakefile").read_text(encoding="utf-8")
    for path in re.findall(r'^include: "(.+)"$', snakefile, re.MULTILINE):
        text = (PROJECT / path).read_text(encoding="utf-8")
        for name, body in re.findall(r"^rule (\w+):\n((?:(?: .*)?\n)+)", text, re.MULTILINE):
            message = re.search(r'^    message:\n        "(.+)"$', body, re.MULTILINE)
            program = re.search(r"\$DML_SCRIPTS/(\w+\.py)", body)
            if program:
                found[name] = (Path(path).name, message.group(1), program.group(1))
    return found


def dependencies(known, snakemake):
    """A directed graph of the rules ``known``, reduced to the arrows that do not follow from others.

    ``snakemake``: the command that starts Snakemake.
    Raises subprocess.CalledProcessError where Snakemake refuses a configuration.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(known)
    for config, values, targets in STUDIES:
        command = [*snakemake, *targets, "--configfile", config]
        command += ["--rulegraph", "dot", "--config", f"results_dir={RESULTS}", *values]
        text = subprocess.run(
            command, cwd=PROJECT, check=True, capture_output=True, text=True
        ).stdout
        labels = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', text, re.MULTILINE))
        for source, target in re.findall(r"^\s*(\d+) -> (\d+)$", text, re.MULTILINE):
            pair = labels[source], labels[target]
            # An initializer may start from another: an arrow from the rule to itself.
            if pair[0] != pair[1] and set(pair) <= set(known):
                graph.add_edge(*pair)
    return nx.transitive_reduction(graph)


def page(snakemake=SNAKEMAKE):
    """The text of docs/pipeline.md; ``snakemake``: see `dependencies`."""
    known = rules()
    graph = dependencies(known, snakemake)
    lines = ["```mermaid", "flowchart TD"]
    for file in dict.fromkeys(file for file, _, _ in known.values()):
        lines.append(f'    subgraph {Path(file).stem}["{file}"]')
        lines += [f"        {name}" for name, (own, _, _) in known.items() if own == file]
        lines.append("    end")
    order = list(known)
    edges = sorted(graph.edges, key=lambda edge: [order.index(name) for name in edge])
    lines += [f"    {source} --> {target}" for source, target in edges]
    lines += ["```", "", "| rule | what it does | program |", "|---|---|---|"]
    for name, (_, message, program) in known.items():
        shown = re.sub(r"\{(?:wildcards|params)\.(\w+)\}", r"*\1*", message)
        lines.append(f"| `{name}` | {shown} | `workflow/scripts/{program}` |")
    return HEADER + "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if the page is stale"
    )
    args = parser.parse_args()
    text = page()
    if not args.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE.relative_to(PROJECT)} is stale: run `make docs`")


if __name__ == "__main__":
    main()
