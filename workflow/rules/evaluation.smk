# Evaluation: tables from stored embeddings. Nothing here trains.


# Makes all tables again: `snakemake --cores all evaluation --forcerun evaluate`.
rule evaluation:
    input:
        FILES.comparison_tables(),
    localrule: True
    message:
        "Every table of the evaluation"


rule evaluate:
    input:
        unpack(lambda w: FILES.tables(STUDY.name, *CLASS_SETS)),
        embeddings=expand(
            f"{FILES.run_folder()}/{{class_set}}/embeddings.npz",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            allow_missing=True,
        ),
        curves=expand(
            f"{FILES.run_folder()}/{{class_set}}/curves.csv",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            allow_missing=True,
        ),
    output:
        expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=CLASS_SETS,
            table=[
                "queries.csv",
                "confusions.csv",
                "metrics.csv",
                "classification_report.csv",
                "summary.json",
            ],
            allow_missing=True,
        ),
        expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            seed=STUDY.seeds,
            class_set=STUDY.limited,
            table=[
                "comparison_unseen_classes.csv",
                "comparison_seen_classes.csv",
                "comparison_all_classes.csv",
                "neighbours.csv",
                "enrolment.csv",
                "rejection.csv",
                "rejection_curve.csv",
                "scalars.json",
            ],
            allow_missing=True,
        ),
        summary=report(
            f"{RESULTS}/experiments/{{experiment}}/summary.csv",
            category="Tables",
            labels={"table": "summary", "of": "{experiment}"},
            caption="../report/summary.rst",
        ),
    log:
        f"{RESULTS}/logs/evaluate/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.evaluate(w.experiment)),
        runtime=growing(60),
    params:
        seeds=STUDY.seeds,
        data=DATA,
        options=arguments.options(
            {
                key: value
                for key, value in config["evaluation"].items()
                if key != "equivalence_margin"
            }
        ),
        # Not {threads}: k-means results depend on the number of threads, and that may be fewer.
        threads=THREADS,
        code=code_digest("evaluate.py"),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
    message:
        "Evaluate {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/evaluate.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--data {params.data:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-sets {input.class_set:q} {params.options:q} --threads {params.threads} --log {log:q}"


# The untrained row with the same backbone and initializer shows whether training improved the features.
rule check_health:
    input:
        unpack(lambda w: FILES.health_inputs(w.experiment)),
    output:
        f"{RESULTS}/experiments/{{experiment}}/health.csv",
    log:
        f"{RESULTS}/logs/health/{{experiment}}.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.health()),
        runtime=growing(10),
    params:
        seeds=STUDY.seeds,
        data=DATA,
        start=lambda w: arguments.options(
            {"start": row} if (row := STUDY.start_row(w.experiment)) else {}
        ),
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        code=code_digest("check_health.py"),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
    message:
        "Check the health of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/check_health.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--class-sets {input.class_set:q} {params.start:q} --data {params.data:q} {params.bootstrap:q} "
        "--out {output:q} --log {log:q}"
