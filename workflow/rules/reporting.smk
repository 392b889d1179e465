# Tables of the whole study and pages; made of tables only.


localrules:
    describe,


rule describe:
    output:
        f"{RESULTS}/experiments/{{experiment}}/config.yaml",
    log:
        f"{RESULTS}/logs/describe/{{experiment}}.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        recipe=lambda w: canonical_json(STUDY.description(w.experiment)),
        code=code_digest("describe.py"),
    message:
        "Write down the recipe of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/describe.py" --recipe {params.recipe:q} --out {output:q} --log {log:q}'


rule compare:
    input:
        expand(
            f"{run_folder()}/{{class_set}}/{{table}}",
            experiment=STUDY.experiments,
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            table=["summary.json", "queries.csv", "cost.json"],
        ),
        expand(
            f"{run_folder()}/{{class_set}}/scalars.json",
            experiment=STUDY.experiments,
            seed=STUDY.seeds,
            class_set=STUDY.limited,
        ),
    output:
        table=f"{RESULTS}/comparison/experiments.csv",
        costs=f"{RESULTS}/comparison/costs.csv",
    log:
        f"{RESULTS}/logs/comparison/compare.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        rows=canonical_json(STUDY.rows()),
        seeds=STUDY.seeds,
        baseline=config["baseline"],
        data=DATA,
        all_classes=ALL_CLASSES,
        limited=STUDY.limited[0],
        code=code_digest("compare.py"),
        folder=lambda w: f"{RESULTS}/experiments",
    message:
        "Compare all experiments"
    shell:
        'python "$DML_SCRIPTS/compare.py" --experiments {params.folder:q} --rows {params.rows:q} '
        "--seeds {params.seeds} --all-classes {params.all_classes} --limited {params.limited} "
        "--baseline {params.baseline:q} --data {params.data:q} --out {output.table:q} --out-costs {output.costs:q} "
        "--log {log:q}"


rule index_page:
    input:
        f"{RESULTS}/comparison/experiments.csv",
    output:
        report(
            f"{RESULTS}/comparison/index.html",
            category="Comparison",
            caption="../report/comparison.rst",
        ),
    log:
        f"{RESULTS}/logs/comparison/index.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        note=NOTE,
        dataset=STUDY.name,
        code=code_digest("compare_page.py", templates=("base.html.j2", "index.html.j2")),
    message:
        "Build the page that compares all experiments"
    shell:
        'python "$DML_SCRIPTS/compare_page.py" --table {input:q} --dataset {params.dataset:q} '
        "--note={params.note:q} --out {output:q} --log {log:q}"


rule report_page:
    input:
        tables=expand(
            f"{run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            table=[
                "curves.csv",
                "metrics.csv",
                "classification_report.csv",
                "summary.json",
            ],
            allow_missing=True,
        ),
        comparisons=expand(
            f"{run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=STUDY.limited,
            table=["comparison_all_classes.csv", "scalars.json"],
            allow_missing=True,
        ),
        recipe=f"{RESULTS}/experiments/{{experiment}}/config.yaml",
        class_sets=data(STUDY.name, "class_sets.csv"),
    output:
        report(
            f"{RESULTS}/experiments/{{experiment}}/report.html",
            category="Experiments",
            labels={"experiment": "{experiment}"},
            caption="../report/experiment.rst",
        ),
    log:
        f"{RESULTS}/logs/report/{{experiment}}.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        note=NOTE,
        seeds=STUDY.seeds,
        class_sets=CLASS_SETS,
        code=code_digest("report.py", templates=("base.html.j2", "report.html.j2")),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
    message:
        "Build the report of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/report.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--class-sets {params.class_sets:q} --class-sets-table {input.class_sets:q} "
        "--note={params.note:q} --out {output:q} --log {log:q}"
