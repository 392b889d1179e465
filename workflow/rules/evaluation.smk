# Tables from stored embeddings; nothing here trains.


rule evaluate:
    input:
        unpack(lambda w: tables(STUDY.name)),
        embeddings=expand(
            f"{run_folder()}/{{class_set}}/embeddings.npz",
            class_set=CLASS_SETS,
            allow_missing=True,
        ),
        curves=expand(
            f"{run_folder()}/{{class_set}}/curves.csv",
            class_set=CLASS_SETS,
            allow_missing=True,
        ),
    output:
        expand(
            f"{run_folder()}/{{class_set}}/{{table}}",
            class_set=CLASS_SETS,
            table=[
                "queries.csv",
                "metrics.csv",
                "classification_report.csv",
                "summary.json",
            ],
            allow_missing=True,
        ),
        expand(
            f"{run_folder()}/{{class_set}}/{{table}}",
            class_set=STUDY.limited,
            table=[
                "comparison_unseen_classes.csv",
                "comparison_seen_classes.csv",
                "comparison_all_classes.csv",
                "scalars.json",
            ],
            allow_missing=True,
        ),
    log:
        f"{RESULTS}/logs/evaluate/{{experiment}}_seed{{seed}}.log",
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        all_classes=ALL_CLASSES,
        limited=STUDY.limited,
        data=DATA,
        unseen=canonical_json(STUDY.class_sets),
        code=code_digest("evaluate.py"),
        folder=lambda w: run_folder(w.experiment, w.seed),
    message:
        "Evaluate {wildcards.experiment} (seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/evaluate.py" --run {params.folder:q} --all-classes {params.all_classes} '
        "--limited {params.limited:q} --data {params.data:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-sets {input.class_sets:q} --threads {threads} --log {log:q}"
