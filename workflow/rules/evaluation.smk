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
            category="2. Tables",
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
                if key not in ("equivalence_margin", "answers", "rejection_scores")
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


rule score_rejection:
    input:
        unpack(lambda w: FILES.embedding_inputs(w.experiment)),
    output:
        scores=f"{RESULTS}/experiments/{{experiment}}/rejection_scores.csv",
        thresholds=f"{RESULTS}/experiments/{{experiment}}/rejection_thresholds.csv",
    log:
        f"{RESULTS}/logs/score_rejection/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.rejection(w.experiment)),
        runtime=growing(60),
    params:
        seeds=STUDY.seeds,
        data=DATA,
        untrained=lambda w: "" if STUDY.fitted(w.experiment) else "--untrained",
        scores=config["evaluation"]["rejection_scores"],
        bootstrap=arguments.options(
            {key: config["evaluation"][key] for key in ("bootstrap_draws", "bootstrap_seed")}
        ),
        # Not {threads}: see the rule above.
        threads=THREADS,
        code=code_digest("score_rejection.py"),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
    message:
        "Score the rejection of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/score_rejection.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--data {params.data:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-sets {input.class_set:q} {params.untrained} --scores {params.scores} "
        "{params.bootstrap:q} --threads {params.threads} --out-scores {output.scores:q} "
        "--out-thresholds {output.thresholds:q} --log {log:q}"


# The nearest neighbour and other ways of answering, from the same embeddings. On one thread, since answers
# depend on sums; ways are fast, and several experiments run side by side.
rule answer:
    input:
        unpack(lambda w: FILES.embedding_inputs(w.experiment)),
    output:
        report(
            FILES.answer_tables()[0],
            category="2. Tables",
            labels={"table": "answers", "of": "{experiment}"},
            caption="../report/answers.rst",
        ),
        FILES.answer_tables()[1:],
        FILES.answer_hits(),
    log:
        f"{RESULTS}/logs/answer/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.answer(w.experiment)),
        runtime=growing(60),
    params:
        seeds=STUDY.seeds,
        data=DATA,
        untrained=lambda w: "" if STUDY.fitted(w.experiment) else "--untrained",
        answers=canonical_json(STUDY.answers),
        options=arguments.options(
            {
                key: config["evaluation"][key]
                for key in (
                    "enrolment_images",
                    "enrolment_draws",
                    "bootstrap_draws",
                    "bootstrap_seed",
                )
            }
        ),
        code=code_digest("answer.py", *(("answer", piece["kind"]) for piece in STUDY.answers)),
        folder=lambda w: f"{RESULTS}/experiments/{w.experiment}",
    message:
        "Answer in several ways by {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/answer.py" --experiment {params.folder:q} --seeds {params.seeds} '
        "--data {params.data:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-sets {input.class_set:q} {params.untrained} --answers {params.answers:q} "
        "{params.options:q} "
        "--out {params.folder:q} --log {log:q}"


# On request only: photographs whose label may be wrong. By the untrained rows, whose features have seen no
# label; by the baseline if there is none.
rule suspected_labels:
    input:
        expand(
            f"{RESULTS}/experiments/{{experiment}}/suspected_labels.html",
            experiment=STUDY.untrained or [config["baseline"]],
        ),
    localrule: True
    message:
        "Photographs whose label may be wrong"


rule suspect_labels:
    input:
        unpack(lambda w: FILES.tables(STUDY.name, ALL_CLASSES)),
        unpack(lambda w: FILES.test_pack_files(w.experiment)),
        embeddings=f"{FILES.run_folder(seed=STUDY.seeds[0])}/{ALL_CLASSES}/embeddings.npz",
    output:
        table=f"{RESULTS}/experiments/{{experiment}}/suspected_labels.csv",
        page=f"{RESULTS}/experiments/{{experiment}}/suspected_labels.html",
    log:
        f"{RESULTS}/logs/suspected_labels/{{experiment}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.suspects(w.experiment)),
        runtime=growing(20),
    params:
        untrained=lambda w: "--untrained" if w.experiment in STUDY.untrained else "",
        note=lambda w: NOTE,
        code=code_digest("suspect_labels.py", templates=["suspects.html.j2"]),
        pack=lambda w: FILES.test_pack(w.experiment),
    message:
        "List suspected labels by {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/suspect_labels.py" --embeddings {input.embeddings:q} '
        "--experiment {wildcards.experiment:q} {params.untrained} --manifest {input.manifest:q} "
        "--split {input.split:q} --class-set {input.class_set:q} --pack {params.pack:q} "
        "--note={params.note:q} --threads {threads} --out-table {output.table:q} "
        "--out-page {output.page:q} --log {log:q}"


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
