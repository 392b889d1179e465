# The data: download, draw or unpack it; then manifest, split, class sets and packs.


rule claim_results:
    output:
        CLAIM,
    log:
        f"{RESULTS}/logs/data/claim.log",
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
        content=FINGERPRINTS[STUDY.name],
        # Not compared: the same content in another place is the same data set. A function also because
        # Snakemake would take braces of a path for wildcards.
        identity=lambda w, output: canonical_json(
            identity.identity(STUDY, FINGERPRINTS[STUDY.name])
        ),
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
        dataset=one_of(FILES.downloaded),
    cache: CACHE
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
    params:
        origin=lambda w: identity.origin(STUDY, w.dataset),
        # Functions of the output are not compared by Snakemake: another mirror gives the same archive.
        urls=lambda w, output: addresses(STUDY.datasets[w.dataset]["source"]),
        verification=lambda w, output: arguments.verification(STUDY.datasets[w.dataset]),
        shown=lambda w, output: without_secrets(addresses(STUDY.datasets[w.dataset]["source"])[0]),
    message:
        "Download {params.shown}"
    shell:
        'python "$DML_SCRIPTS/download.py" --url {params.urls:q} {params.verification:q} '
        "--out {output.archive:q} --log {log:q}"


rule draw_dataset:
    output:
        archive=f"{RESULTS}/data/{{dataset}}/archive",
        digest=f"{RESULTS}/data/{{dataset}}/archive.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/draw.log",
    wildcard_constraints:
        dataset=one_of(FILES.drawn),
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        options=lambda w: arguments.options(STUDY.datasets[w.dataset]["drawn"]),
        code=code_digest("draw_birds.py"),
    message:
        "Draw synthetic birds: {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/draw_birds.py" {params.options:q} --threads {threads} '
        "--out {output.archive:q} --log {log:q}"


rule extract_dataset:
    input:
        unpack(lambda w: FILES.archive(w.dataset)),
    output:
        images=directory(f"{RESULTS}/data/{{dataset}}/images"),
        contents=f"{RESULTS}/data/{{dataset}}/contents.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/extract.log",
    wildcard_constraints:
        dataset=one_of(FILES.unpacked),
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        # Downloads are verified when they arrive.
        verification=lambda w: (
            arguments.verification(STUDY.datasets[w.dataset]) if FILES.sources[w.dataset] else []
        ),
        code=code_digest("extract.py"),
    message:
        "Unpack {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/extract.py" --archive {input.archive:q} --out {output.images:q} '
        "--contents {output.contents:q} {params.verification:q} --log {log:q}"


# A data set of several files: each is downloaded by itself, then they are put together in one folder.
rule download_file:
    output:
        file=f"{RESULTS}/data/{{dataset}}/files/{{file}}",
        digest=f"{RESULTS}/data/{{dataset}}/files/{{file}}.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/download_{{file}}.log",
    wildcard_constraints:
        dataset=one_of(FILES.gathered),
        file=one_of(FILES.downloaded_files),
    cache: CACHE
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=500,
        runtime=240,
    params:
        origin=lambda w: identity.file_origin(STUDY.datasets[w.dataset]["files"][w.file]),
        # Functions of the output are not compared by Snakemake: another mirror gives the same file.
        urls=lambda w, output: addresses(STUDY.datasets[w.dataset]["files"][w.file]["source"]),
        verification=lambda w, output: arguments.verification(
            STUDY.datasets[w.dataset]["files"][w.file]
        ),
        shown=lambda w, output: without_secrets(
            addresses(STUDY.datasets[w.dataset]["files"][w.file]["source"])[0]
        ),
    message:
        "Download {params.shown}"
    shell:
        'python "$DML_SCRIPTS/download.py" --url {params.urls:q} {params.verification:q} '
        "--out {output.file:q} --log {log:q}"


rule gather_files:
    input:
        unpack(lambda w: FILES.files(w.dataset)),
    output:
        images=directory(f"{RESULTS}/data/{{dataset}}/images"),
        contents=f"{RESULTS}/data/{{dataset}}/contents.json",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/gather.log",
    wildcard_constraints:
        dataset=one_of(FILES.gathered),
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        names=lambda w: list(STUDY.datasets[w.dataset]["files"]),
        checks=lambda w: canonical_json(arguments.files_verification(STUDY.datasets[w.dataset])),
        code=code_digest("gather_files.py"),
    message:
        "Put the files of {wildcards.dataset} together"
    shell:
        'python "$DML_SCRIPTS/gather_files.py" --names {params.names:q} --files {input.files:q} '
        "--checks {params.checks:q} --out {output.images:q} --contents {output.contents:q} --log {log:q}"


rule list_images:
    input:
        unpack(lambda w: FILES.image_files(w.dataset)),
    output:
        f"{RESULTS}/data/{{dataset}}/manifest.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/manifest.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.listing(w.dataset)),
        runtime=growing(30),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        options=lambda w: arguments.listing(STUDY.datasets[w.dataset]),
        code=lambda w: code_digest(
            "list_images.py", ("format", STUDY.datasets[w.dataset]["format"])
        ),
        # Not compared: FINGERPRINTS follows the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
    message:
        "List the images of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/list_images.py" --images {params.images:q} {params.options:q} '
        "--threads {threads} --out {output:q} --log {log:q}"


# On request only: all problems of the images. The rule above stops at the first problem.
rule find_problems:
    input:
        unpack(lambda w: FILES.image_files(w.dataset)),
    output:
        problems=f"{RESULTS}/data/{{dataset}}/check/problems.csv",
        classes=f"{RESULTS}/data/{{dataset}}/check/classes.csv",
        copies=f"{RESULTS}/data/{{dataset}}/check/copies.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/find_problems.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.listing(w.dataset)),
        runtime=growing(60),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        options=lambda w: arguments.listing(STUDY.datasets[w.dataset]),
        split=lambda w: arguments.splitting(PROTOCOL, own=w.dataset == STUDY.name),
        grouping=lambda w: arguments.grouping(config) if w.dataset in GROUPED else [],
        near=arguments.near(PROTOCOL),
        resizes=lambda w: STUDY.packs_of(w.dataset),
        unseen=lambda w: max(one["unseen"] for one in STUDY.class_sets_of(w.dataset).values()),
        code=lambda w: code_digest(
            "find_problems.py", ("format", STUDY.datasets[w.dataset]["format"])
        ),
        # Not compared: FINGERPRINTS follows the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
    message:
        "Check all images of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/find_problems.py" --images {params.images:q} {params.options:q} '
        "{params.split:q} {params.grouping:q} {params.near:q} --resize {params.resizes:q} "
        "--unseen {params.unseen} --threads {threads} --out-problems {output.problems:q} "
        "--out-classes {output.classes:q} --out-copies {output.copies:q} --log {log:q}"


rule show_copies:
    input:
        unpack(lambda w: FILES.image_files(w.dataset)),
        copies=f"{RESULTS}/data/{{dataset}}/check/copies.csv",
    output:
        f"{RESULTS}/data/{{dataset}}/check/copies.html",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/show_copies.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: NEED.listing(w.dataset)),
        runtime=growing(10),
    params:
        max_pixels=lambda w: STUDY.datasets[w.dataset]["max_pixels"],
        near=arguments.near(PROTOCOL),
        duplicates=lambda w: PROTOCOL["duplicates"] if w.dataset in GROUPED else "keep",
        code=code_digest("show_copies.py", templates=["copies.html.j2"]),
        # Not compared: the table follows the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
    message:
        "Show the copies among the images of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/show_copies.py" --images {params.images:q} --copies {input.copies:q} '
        "--dataset {wildcards.dataset:q} --duplicates {params.duplicates} {params.near:q} "
        "--max-pixels {params.max_pixels} --out {output:q} --log {log:q}"


rule check_data:
    input:
        expand(
            f"{RESULTS}/data/{{dataset}}/check/{{table}}",
            dataset=STUDY.datasets,
            table=["problems.csv", "classes.csv", "copies.html"],
        ),
    log:
        f"{RESULTS}/logs/data/check_data.log",
    localrule: True
    conda:
        CONDA
    container:
        CONTAINER
    threads: 1
    resources:
        mem_mb=growing(lambda w: max(map(NEED.tables, STUDY.datasets))),
        runtime=5,
    params:
        folders=lambda w, input: sorted({os.path.dirname(path) for path in input}),
    message:
        "Show the problems that were found"
    shell:
        'python "$DML_SCRIPTS/show_problems.py" --folders {params.folders:q} --log {log:q}'


rule split_dataset:
    input:
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
        claim=ancient(CLAIM),
    output:
        split=f"{RESULTS}/data/{{dataset}}/split.csv",
        duplicates=f"{RESULTS}/data/{{dataset}}/duplicates.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/split.log",
    wildcard_constraints:
        dataset=one_of([name for name in STUDY.datasets if name not in GROUPED]),
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
        options=lambda w: arguments.splitting(PROTOCOL, own=w.dataset == STUDY.name),
        code=code_digest("split.py"),
    message:
        "Split {wildcards.dataset} into training and test images"
    shell:
        'python "$DML_SCRIPTS/split.py" --manifest {input.manifest:q} {params.options:q} '
        "--out {output.split:q} --out-duplicates {output.duplicates:q} --log {log:q}"


# Only if the split depends on them: protocol.duplicates.
rule find_copies:
    input:
        unpack(lambda w: FILES.image_files(w.dataset)),
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
    output:
        f"{RESULTS}/data/{{dataset}}/copies.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/copies.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.listing(w.dataset)),
        runtime=growing(60),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        max_pixels=lambda w: STUDY.datasets[w.dataset]["max_pixels"],
        near=arguments.near(PROTOCOL),
        code=code_digest("find_copies.py"),
        # Not compared: FINGERPRINTS follows the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
    message:
        "Find copies among the images of {wildcards.dataset}"
    shell:
        'python "$DML_SCRIPTS/find_copies.py" --images {params.images:q} --manifest {input.manifest:q} '
        "{params.near:q} --max-pixels {params.max_pixels} --threads {threads} --out {output:q} "
        "--log {log:q}"


# In place of the rule above if copies, or groups of photographs, must stand in one part.
rule split_groups:
    input:
        unpack(lambda w: FILES.group_files(w.dataset)),
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
        claim=ancient(CLAIM),
    output:
        split=f"{RESULTS}/data/{{dataset}}/split.csv",
        duplicates=f"{RESULTS}/data/{{dataset}}/duplicates.csv",
        groups=f"{RESULTS}/data/{{dataset}}/groups.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/split.log",
    wildcard_constraints:
        dataset=one_of(GROUPED),
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
        options=arguments.splitting(PROTOCOL),
        grouping=arguments.grouping(config),
        code=code_digest("split_groups.py"),
        copies=lambda w, input: ["--copies", input.copies] if "copies" in input.keys() else [],
        # Not compared: the manifest and the table follow the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
    message:
        "Split {wildcards.dataset}, with groups in one part"
    shell:
        'python "$DML_SCRIPTS/split_groups.py" --images {params.images:q} --manifest {input.manifest:q} '
        "{params.options:q} {params.grouping:q} {params.copies:q} --out {output.split:q} "
        "--out-duplicates {output.duplicates:q} --out-groups {output.groups:q} --log {log:q}"


rule choose_classes:
    input:
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
        split=f"{RESULTS}/data/{{dataset}}/split.csv",
    output:
        f"{RESULTS}/data/{{dataset}}/class_sets/{{class_set}}.csv",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/class_sets/{{class_set}}.log",
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
        unseen=lambda w: STUDY.class_sets_of(w.dataset)[w.class_set]["unseen"],
        seed=lambda w: STUDY.class_sets_of(w.dataset)[w.class_set].get("seed", []),
        code=code_digest("choose_classes.py"),
        # It takes the output, so that it is not compared: another experiment chooses no other classes.
        needs=lambda w, output: training_needs(w.dataset),
    message:
        "Choose the seen and unseen classes of {wildcards.dataset} ({wildcards.class_set})"
    shell:
        'python "$DML_SCRIPTS/choose_classes.py" --manifest {input.manifest:q} --class-set {wildcards.class_set} '
        "--unseen {params.unseen} --seed {params.seed} --split {input.split:q} "
        "--needs {params.needs:q} --out {output:q} --log {log:q}"


rule pack:
    input:
        unpack(lambda w: FILES.image_files(w.dataset)),
        manifest=f"{RESULTS}/data/{{dataset}}/manifest.csv",
    output:
        pixels=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin",
        index=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/index.npz",
        digest=f"{RESULTS}/data/{{dataset}}/pack_{{resize}}/pixels.bin.sha256",
    log:
        f"{RESULTS}/logs/data/{{dataset}}/pack_{{resize}}.log",
    conda:
        CONDA
    container:
        CONTAINER
    threads: THREADS
    resources:
        mem_mb=growing(lambda w: NEED.packing(w.dataset)),
        runtime=growing(60),
    params:
        source=lambda w: FINGERPRINTS[w.dataset],
        max_pixels=lambda w: STUDY.datasets[w.dataset]["max_pixels"],
        code=code_digest("pack.py"),
        # Not compared: FINGERPRINTS follows the content, wherever the folder lies.
        images=lambda w, output: FILES.image_folder(w.dataset),
        folder=lambda w, output: os.path.dirname(output.pixels),
    message:
        "Decode {wildcards.dataset} once, resized as {wildcards.resize}"
    shell:
        'python "$DML_SCRIPTS/pack.py" --images {params.images:q} --manifest {input.manifest:q} '
        "--resize {wildcards.resize} --max-pixels {params.max_pixels} --threads {threads} "
        "--out {params.folder:q} --log {log:q}"
