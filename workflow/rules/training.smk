# A model per experiment, class set and seed. Heads of a backbone that does not train share its features.


rule train:
    input:
        unpack(lambda w: FILES.run_inputs(w.experiment, w.class_set, w.seed)),
    output:
        **FILES.run_outputs(),
    log:
        f"{RESULTS}/logs/train/{{experiment}}_seed{{seed}}_{{class_set}}.log",
    wildcard_constraints:
        experiment=one_of(STUDY.on_images),
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.run(w.experiment)),
        runtime=growing(480),
    params:
        recipe=lambda w: canonical_json(
            STUDY.known(w.experiment, STUDY.run_recipe(w.experiment, int(w.seed)))
        ),
        code=lambda w: code_digest("train.py", *recipes.pieces(STUDY.experiments[w.experiment])),
        start=lambda w, input: weights_option(w, input) + chosen_option(w, input),
        train_pack=lambda w, input: os.path.dirname(input.train_pixels),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
        folder=lambda w, output: os.path.dirname(output.model),
        checkpoint_every=checkpoint_every,
    message:
        "Train {wildcards.experiment} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/train.py" --recipe {params.recipe:q} --name {wildcards.experiment:q} '
        "--class-set {input.class_set:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--train-pack {params.train_pack:q} "
        "--test-pack {params.test_pack:q} {params.start:q} --out {params.folder:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"


rule features:
    input:
        unpack(lambda w: FILES.feature_inputs(w.features)),
    output:
        features=f"{RESULTS}/features/{{features}}/features.npy",
        digest=f"{RESULTS}/features/{{features}}/features.npy.sha256",
        cost=f"{RESULTS}/features/{{features}}/cost.json",
    log:
        f"{RESULTS}/logs/features/{{features}}.log",
    wildcard_constraints:
        features=one_of(FILES.feature_sets()),
    # Several runs wait for it.
    priority: 10
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.features(w.features)),
        runtime=growing(480),
    params:
        recipe=lambda w: FILES.feature_recipe(w.features).as_json(),
        code=lambda w: code_digest(
            "compute_features.py",
            registry.backbone_piece(FILES.feature_recipe(w.features).backbone),
        ),
        test_pack=lambda w, input: os.path.dirname(input.test_pixels),
    message:
        "Compute the features {wildcards.features}"
    shell:
        'python "$DML_SCRIPTS/compute_features.py" --recipe {params.recipe:q} '
        "--name {wildcards.features:q} --test-pack {params.test_pack:q} --weights {input.weights:q} "
        "--out {output.features:q} --out-cost {output.cost:q} --log {log:q}"


rule train_head:
    input:
        unpack(lambda w: FILES.run_inputs(w.experiment, w.class_set, w.seed)),
    output:
        **FILES.run_outputs(),
    log:
        f"{RESULTS}/logs/train/{{experiment}}_seed{{seed}}_{{class_set}}.log",
    wildcard_constraints:
        experiment=one_of(STUDY.on_features),
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        gpu=GPU,
        mem_mb=growing(lambda w: NEED.run(w.experiment)),
        runtime=growing(120),
    params:
        recipe=lambda w: canonical_json(
            STUDY.known(w.experiment, STUDY.run_recipe(w.experiment, int(w.seed)))
        ),
        code=lambda w: code_digest(
            "train_head.py", *recipes.pieces(STUDY.experiments[w.experiment])
        ),
        chosen=chosen_option,
        test_resize=lambda w: STUDY.resizes(STUDY.experiments[w.experiment])[1],
        folder=lambda w, output: os.path.dirname(output.model),
        checkpoint_every=checkpoint_every,
    message:
        "Train the head of {wildcards.experiment} ({wildcards.class_set}, seed {wildcards.seed})"
    shell:
        'python "$DML_SCRIPTS/train_head.py" --recipe {params.recipe:q} --name {wildcards.experiment:q} '
        "--class-set {input.class_set:q} --manifest {input.manifest:q} --split {input.split:q} "
        "--features {input.features:q} --test-resize {params.test_resize} --weights {input.weights:q} "
        "{params.chosen:q} --out {params.folder:q} "
        "--code {params.code} --checkpoint-every {params.checkpoint_every} --log {log:q}"
