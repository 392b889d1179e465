# Search indexes of finished runs. They are built only on request, by name.


rule index_gallery:
    input:
        unpack(lambda w: FILES.tables(STUDY.name, w.class_set)),
        unpack(
            lambda w: FILES.index_inputs(
                w.experiment, w.class_set, w.seed, config["index"]["threshold"]
            )
        ),
        embeddings=f"{FILES.run_folder()}/{{class_set}}/embeddings.npz",
        model=f"{FILES.run_folder()}/{{class_set}}/model.pt",
    output:
        directory(f"{FILES.run_folder()}/{{class_set}}/{{index}}"),
    log:
        f"{RESULTS}/logs/index/{{experiment}}_seed{{seed}}_{{class_set}}_{{index}}.log",
    wildcard_constraints:
        index="index|index_seen",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.gallery(w.experiment)),
        runtime=growing(20),
    params:
        seen_only=lambda w: "--seen-only" if w.index == "index_seen" else "",
        accepted_share=config["index"]["accepted_share"],
        threshold=config["index"]["threshold"],
        untrained=lambda w: "" if STUDY.fitted(w.experiment) else "--untrained",
        data=DATA,
        answers=canonical_json(STUDY.answers),
        code=code_digest(
            "index_gallery.py", *(("answer", piece["kind"]) for piece in STUDY.answers)
        ),
    message:
        "Index the gallery of {wildcards.experiment} ({wildcards.class_set}, seed {wildcards.seed}): {wildcards.index}"
    shell:
        'python "$DML_SCRIPTS/index_gallery.py" --embeddings {input.embeddings:q} '
        "--model {input.model:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--class-set {input.class_set:q} {params.seen_only} "
        "--accepted-share {params.accepted_share} --threshold {params.threshold} {params.untrained} "
        "--limited {input.limited:q} --limited-sets {input.limited_sets:q} --data {params.data:q} --threads {threads} "
        "--answers {params.answers:q} --out {output:q} --log {log:q}"
