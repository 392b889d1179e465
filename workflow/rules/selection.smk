# Selection: if an experiment lists several values for a key, each combination is a candidate. The best is
# chosen.


rule hold_out:
    input:
        unpack(lambda w: FILES.tables(w.dataset, *CLASS_SETS)),
    output:
        f"{RESULTS}/data/{{dataset}}/selection.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/selection.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.tables(w.dataset)),
        runtime=10,
    params:
        validation_share=PROTOCOL["selection"]["validation_share"],
        held_out_share=PROTOCOL["selection"]["held_out_share"],
        seed=STUDY.selection_seed,
        code=code_digest("hold_out.py"),
    message:
        "Hold out images and classes of {wildcards.dataset} for selections"
    shell:
        'python "$DML_SCRIPTS/hold_out.py" --manifest {input.manifest:q} --split {input.split:q} '
        "--class-sets {input.class_set:q} --validation-share {params.validation_share} "
        "--held-out-share {params.held_out_share} --seed {params.seed} --out {output:q} --log {log:q}"


rule try_candidate:
    input:
        unpack(lambda w: FILES.candidate_inputs(w.experiment)),
    output:
        **FILES.candidate_outputs(),
    log:
        f"{RESULTS}/logs/selection/{{experiment}}_{{candidate}}.log",
    wildcard_constraints:
        experiment=one_of(STUDY.on_images),
    # Candidates go before other trainings, because the experiment's own trainings wait for all of them.
    priority: 5
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.candidate(w.experiment, w.candidate)),
        runtime=growing(480),
    params:
        recipe=lambda w: STUDY.candidate_recipe(w.experiment, w.candidate).as_json(),
        code=lambda w: code_digest(
            "try_candidate.py", *recipes.pieces(STUDY.experiments[w.experiment])
        ),
        start=weights_option,
        train_pack=lambda w, input: os.path.dirname(input.train_pixels),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
        checkpoint_every=checkpoint_every,
    message:
        "Try {wildcards.experiment} with {wildcards.candidate}"
    shell:
        'python "$DML_SCRIPTS/try_candidate.py" --recipe {params.recipe:q} --name {wildcards.experiment:q} '
        "--images {input.images:q} --train-pack {params.train_pack:q} --test-pack {params.test_pack:q} "
        "{params.start:q} --out {output.scores:q} --out-cost {output.cost:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"


rule try_head:
    input:
        unpack(lambda w: FILES.candidate_inputs(w.experiment)),
    output:
        **FILES.candidate_outputs(),
    log:
        f"{RESULTS}/logs/selection/{{experiment}}_{{candidate}}.log",
    wildcard_constraints:
        experiment=one_of(STUDY.on_features),
    priority: 5
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.candidate(w.experiment, w.candidate)),
        runtime=growing(120),
    params:
        recipe=lambda w: STUDY.candidate_recipe(w.experiment, w.candidate).as_json(),
        code=lambda w: code_digest("try_head.py", *recipes.pieces(STUDY.experiments[w.experiment])),
        test_resize=lambda w: STUDY.resizes(STUDY.experiments[w.experiment])[1],
        checkpoint_every=checkpoint_every,
    message:
        "Try the head of {wildcards.experiment} with {wildcards.candidate}"
    shell:
        'python "$DML_SCRIPTS/try_head.py" --recipe {params.recipe:q} --name {wildcards.experiment:q} '
        "--images {input.images:q} --features {input.features:q} --test-resize {params.test_resize} "
        "--weights {input.weights:q} --out {output.scores:q} --out-cost {output.cost:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"


rule choose_candidate:
    input:
        lambda w: FILES.candidate_scores(w.experiment),
    output:
        f"{RESULTS}/experiments/{{experiment}}/selection/chosen.json",
    log:
        f"{RESULTS}/logs/selection/{{experiment}}_chosen.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        choices=lambda w: canonical_json(STUDY.choices(w.experiment)),
        code=code_digest("choose_candidate.py"),
    message:
        "Choose the values of {wildcards.experiment}"
    shell:
        'python "$DML_SCRIPTS/choose_candidate.py" --name {wildcards.experiment:q} '
        "--choices {params.choices:q} --scores {input:q} --out {output:q} --log {log:q}"


rule compare_candidates:
    input:
        [FILES.candidate_scores(name) for name in STUDY.candidates],
        expand(
            f"{RESULTS}/experiments/{{experiment}}/selection/chosen.json",
            experiment=STUDY.candidates,
        ),
    output:
        f"{RESULTS}/comparison/tuning.csv",
    log:
        f"{RESULTS}/logs/comparison/tuning.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        candidates=lambda w: canonical_json(
            [[name, list(STUDY.candidates[name])] for name in STUDY.candidates]
        ),
        code=code_digest("compare_candidates.py"),
        folder=lambda w: f"{RESULTS}/experiments",
    message:
        "Compare all candidates"
    shell:
        'python "$DML_SCRIPTS/compare_candidates.py" --experiments {params.folder:q} '
        "--candidates {params.candidates:q} --out {output:q} --log {log:q}"
