# From an address, an archive, a folder or a generator to manifest, split, class sets and packs.


localrules:
    claim_results,
    download_dataset,


rule claim_results:
    output:
        CLAIM,
    log:
        f"{RESULTS}/logs/data/claim.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        identity=canonical_json(STUDY.identity()),
        code=code_digest("claim.py"),
    message:
        "Claim the results folder for this data set and split"
    shell:
        'python "$DML_SCRIPTS/claim.py" --identity {params.identity:q} --out {output:q} --log {log:q}'


rule download_dataset:
    output:
        archive=f"{RESULTS}/data/{{dataset}}/archive",
        digest=f"{RESULTS}/data/{{dataset}}/archive.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/download.log",
    wildcard_constraints:
        dataset=one_of(DOWNLOADED),
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
    params:
        source=lambda w: STUDY.datasets[w.dataset]["source"],
        checksums=lambda w: [
            f"{name}:{STUDY.datasets[w.dataset][name]}"
            for name in ("md5", "sha256")
            if STUDY.datasets[w.dataset][name]
        ],
    message:
        "Download {params.source}"
    shell:
        'python "$DML_SCRIPTS/download.py" --url {params.source:q} --checksum {params.checksums:q} '
        "--out {output.archive:q} --log {log:q}"


rule draw_dataset:
    output:
        archive=f"{RESULTS}/data/{{dataset}}/archive",
        digest=f"{RESULTS}/data/{{dataset}}/archive.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/draw.log",
    wildcard_constraints:
        dataset=one_of(DRAWN),
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        options=lambda w: command_options(STUDY.datasets[w.dataset]["drawn"]),
        code=code_digest("draw_birds.py"),
    message:
        "Draw synthetic birds: {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/draw_birds.py" {params.options:q} --threads {threads} '
        "--out {output.archive:q} --log {log:q}"


rule extract_dataset:
    input:
        unpack(lambda w: archive(w.dataset)),
    output:
        images=directory(f"{RESULTS}/data/{{dataset}}/images"),
        contents=f"{RESULTS}/data/{{dataset}}/contents.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/extract.log",
    wildcard_constraints:
        dataset=one_of(UNPACKED),
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        code=code_digest("extract.py"),
    message:
        "Unpack {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/extract.py" --archive {input.archive:q} --out {output.images:q} '
        "--contents {output.contents:q} --log {log:q}"


rule list_images:
    input:
        unpack(lambda w: image_files(w.dataset)),
    output:
        f"{RESULTS}/data/{{dataset}}/manifest.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/manifest.log",
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        format=lambda w: STUDY.datasets[w.dataset]["format"],
        options=lambda w: command_options(
            {
                key: STUDY.datasets[w.dataset][key]
                for key in ("classes", "max_pixels")
                if STUDY.datasets[w.dataset][key] is not None
            }
        ),
        code=lambda w: code_digest(
            "list_images.py", ("format", STUDY.datasets[w.dataset]["format"])
        ),
        images=lambda w: image_folder(w.dataset),
    message:
        "List the images of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/list_images.py" --images {params.images:q} --format {params.format:q} '
        "{params.options:q} --threads {threads} --out {output:q} --log {log:q}"


rule split_dataset:
    input:
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
        claim=ancient(CLAIM),
    output:
        f"{RESULTS}/data/{{dataset}}/split.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/split.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        method=lambda w: PROTOCOL["split"] if w.dataset == STUDY.name else "stratified",
        test_share=PROTOCOL["test_share"],
        validation_share=PROTOCOL["validation_share"],
        seed=PROTOCOL["split_seed"],
        code=code_digest("split.py"),
    message:
        "Split {wildcards.dataset} into training and test images"
    shell:
        'python "$DML_SCRIPTS/split.py" --manifest {input.manifest:q} --method {params.method} '
        "--test-share {params.test_share} --validation-share {params.validation_share} "
        "--seed {params.seed} --out {output:q} --log {log:q}"


rule choose_classes:
    input:
        f"{RESULTS}/data/{{dataset}}/manifest.csv",
    output:
        f"{RESULTS}/data/{{dataset}}/class_sets/{{class_set}}.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/class_sets/{{class_set}}.log",
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        unseen=lambda w: STUDY.class_sets_of(w.dataset)[w.class_set]["unseen"],
        seed=lambda w: STUDY.class_sets_of(w.dataset)[w.class_set].get("seed", []),
        code=code_digest("choose_classes.py"),
    message:
        "Choose the seen and unseen classes of {wildcards.dataset} ({wildcards.class_set})"
    shell:
        'python "$DML_SCRIPTS/choose_classes.py" --manifest {input:q} --class-set {wildcards.class_set} '
        "--unseen {params.unseen} --seed {params.seed} --out {output:q} --log {log:q}"


rule pack:
    input:
        unpack(lambda w: image_files(w.dataset)),
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
    output:
        pixels=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin",
        index=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/index.npz",
        digest=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/pack_{{resize}}.log",
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        max_pixels=lambda w: STUDY.datasets[w.dataset]["max_pixels"],
        code=code_digest("pack.py"),
        images=lambda w: image_folder(w.dataset),
        folder=lambda w, output: os.path.dirname(output.pixels),
    message:
        "Decode {wildcards.dataset} once, as {wildcards.resize}"
    shell:
        'python "$DML_SCRIPTS/pack.py" --images {params.images:q} --manifest {input.manifest:q} '
        "--resize {wildcards.resize} --max-pixels {params.max_pixels} --threads {threads} "
        "--out {params.folder:q} --log {log:q}"
