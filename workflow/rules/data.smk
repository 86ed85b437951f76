"""Data: problems and demonstrations, generated or read, checked, as JSON lines."""


rule prepare:
    """Generate or read a dataset, check answers and splits, write it as JSON lines with a manifest."""
    output:
        train="<results>/data/{dataset}/train.jsonl",
        validation="<results>/data/{dataset}/validation.jsonl",
        test="<results>/data/{dataset}/test.jsonl",
        demonstrations="<results>/data/{dataset}/demonstrations.jsonl",
        manifest="<results>/data/{dataset}/manifest.json",
    log:
        "<logs>/prepare/{dataset}.log",
    benchmark:
        "<benchmarks>/prepare/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.prepare.mem_mb,
        runtime=STUDY.resources.prepare.runtime_min,
        gpu=STUDY.resources.prepare.gpus,
    params:
        settings=dataset_settings,
        folder=subpath(output.manifest, parent=True),
    shell:
        "python -m spo prepare --name {wildcards.dataset} --settings {params.settings:q} --output {params.folder}"
        " 3>&2 > {log} 2>&1"
