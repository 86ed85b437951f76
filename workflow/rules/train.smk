"""Training: base models by supervised learning, then one run for each method and seed.

The state folder is a parameter and not an output: Snakemake deletes outputs before a job starts, and a killed job must find
its checkpoints again. Descriptor 3 stays the terminal, so that progress can be shown while all output goes to the log.
"""


rule sft:
    """Train a base model from random weights on demonstrations, right habits and wrong ones alike."""
    input:
        data=sft_data,
    output:
        config="<results>/models/{model}/config.json",
        generation="<results>/models/{model}/generation_config.json",
        weights="<results>/models/{model}/model.safetensors",
        tokenizer="<results>/models/{model}/tokenizer.json",
        tokenizer_config="<results>/models/{model}/tokenizer_config.json",
        card="<results>/models/{model}/README.md",
        metrics="<results>/models/{model}/metrics.jsonl",
        timing="<results>/models/{model}/timing.jsonl",
    log:
        "<logs>/sft/{model}.log",
    benchmark:
        "<benchmarks>/sft/{model}.tsv"
    priority: 10000
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.sft.mem_mb,
        runtime=STUDY.resources.sft.runtime_min,
        gpu=STUDY.resources.sft.gpus,
    params:
        settings=sft_settings,
        dataset=sft_dataset,
        data=sft_data_folder,
        state=model_state,
        folder=subpath(output.config, parent=True),
    shell:
        "python -m spo sft --name {wildcards.model} --settings {params.settings:q} --dataset {params.dataset:q}"
        " --gpus {resources.gpu} --data {params.data} --state {params.state} --output {params.folder}"
        " 3>&2 > {log} 2>&1"


rule train:
    """Improve a base model with one method and one seed; a killed run goes on where it was."""
    input:
        data=run_data,
        model=run_model,
    output:
        config="<results>/runs/{run}/model/config.json",
        generation="<results>/runs/{run}/model/generation_config.json",
        weights="<results>/runs/{run}/model/model.safetensors",
        tokenizer="<results>/runs/{run}/model/tokenizer.json",
        tokenizer_config="<results>/runs/{run}/model/tokenizer_config.json",
        card="<results>/runs/{run}/model/README.md",
        metrics="<results>/runs/{run}/metrics.jsonl",
        timing="<results>/runs/{run}/timing.jsonl",
    log:
        "<logs>/train/{run}.log",
    benchmark:
        "<benchmarks>/train/{run}.tsv"
    wildcard_constraints:
        run=one_of(run for run in RUNS if run not in CRITICS),
    priority: run_priority
    conda:
        "../../environment.yml"
    threads: STUDY.resources.train.processes
    resources:
        mem_mb=STUDY.resources.train.mem_mb,
        runtime=STUDY.resources.train.runtime_min,
        gpu=STUDY.resources.train.gpus,
        processes=STUDY.resources.train.processes,
    params:
        settings=run_settings,
        dataset=run_dataset,
        start=run_start,
        data=run_data_folder,
        state=run_state,
        folder=subpath(output.metrics, parent=True),
    shell:
        "python -m spo train --name {wildcards.run} --settings {params.settings:q} --dataset {params.dataset:q}"
        " --gpus {resources.gpu} --processes {resources.processes} --model {params.start} --data {params.data}"
        " --state {params.state} --output {params.folder}"
        " 3>&2 > {log} 2>&1"


use rule train as train_with_critic with:
    output:
        **rules.train.output,
        critic_config="<results>/runs/{run}/critic/config.json",
        critic_weights="<results>/runs/{run}/critic/model.safetensors",
    wildcard_constraints:
        run=one_of(CRITICS),
    threads: STUDY.resources.train_with_critic.processes
    resources:
        mem_mb=STUDY.resources.train_with_critic.mem_mb,
        runtime=STUDY.resources.train_with_critic.runtime_min,
        gpu=STUDY.resources.train_with_critic.gpus,
        processes=STUDY.resources.train_with_critic.processes,
