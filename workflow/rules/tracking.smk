# Finished runs are sent to Weights & Biases, from their files.


rule track:
    input:
        all_classes=expand(
            f"{FILES.run_folder()}/{ALL_CLASSES}/{{table}}",
            table=["curves.csv", "metrics.csv", "classification_report.csv"],
            allow_missing=True,
        ),
        limited=expand(
            f"{FILES.run_folder()}/{{class_set}}/{{table}}",
            table=[
                "curves.csv",
                "metrics.csv",
                "classification_report.csv",
                "comparison_unseen_classes.csv",
                "comparison_seen_classes.csv",
                "scalars.json",
            ],
            allow_missing=True,
        ),
    output:
        f"{FILES.run_folder()}/{{class_set}}/tracking.json",
    log:
        f"{RESULTS}/logs/track/{{experiment}}_seed{{seed}}_{{class_set}}.log",
    wildcard_constraints:
        class_set=one_of(TRACKED),
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        what=lambda w: canonical_json(
            identity.tracked(STUDY, w.experiment, int(w.seed), w.class_set, weights_content)
        ),
        options=lambda w: arguments.options(
            {key: value for key, value in config["tracking"].items() if value is not None}
        ),
        code=code_digest("track.py"),
        root=f"{RESULTS}/tracking",
        all_classes=lambda w, input: os.path.dirname(input.all_classes[0]),
        limited=lambda w, input: os.path.dirname(input.limited[0]),
    message:
        "Track {wildcards.experiment} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/track.py" --all-classes {params.all_classes:q} '
        "--limited {params.limited:q} --what {params.what:q} {params.options:q} "
        "--root {params.root:q} --out {output:q} --log {log:q}"
