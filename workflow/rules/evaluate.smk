"""Evaluation: predictions once at the longest context, verdicts at every context, accuracies with intervals.

Predictions are kept apart from verdicts: an edited grader regrades, and never samples again.
"""


rule generate:
    """Predict a test set at the longest context; shorter ones are prefixes, cut when graded."""
    input:
        problems="<results>/data/{dataset}/test.jsonl",
        policy=policy_files,
    output:
        predictions="<results>/evals/{policy}/{dataset}/{protocol}/predictions.jsonl",
    log:
        "<logs>/generate/{policy}/{dataset}/{protocol}.log",
    benchmark:
        "<benchmarks>/generate/{policy}/{dataset}/{protocol}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.generate.mem_mb,
        runtime=STUDY.resources.generate.runtime_min,
        gpu=STUDY.resources.generate.gpus,
    params:
        settings=protocol_settings,
        dataset=policy_dataset,
        context=longest_context,
        folder=policy_folder,
        data=subpath(input.problems, parent=True),
        state=predictions_state,
    shell:
        "python -m spo generate --settings {params.settings:q} --dataset {params.dataset:q}"
        " --gpus {resources.gpu} --contexts {params.context} --model {params.folder} --data {params.data} --state {params.state}"
        " --output {output.predictions} 3>&2 > {log} 2>&1"


rule grade:
    """Extract and judge the answer of every prediction at every context."""
    input:
        predictions="<results>/evals/{policy}/{dataset}/{protocol}/predictions.jsonl",
        problems="<results>/data/{dataset}/test.jsonl",
        policy=policy_files,
        code=code("grading/*.py", "evaluation/grade.py"),
    output:
        graded="<results>/evals/{policy}/{dataset}/{protocol}/graded.jsonl",
    log:
        "<logs>/grade/{policy}/{dataset}/{protocol}.log",
    benchmark:
        "<benchmarks>/grade/{policy}/{dataset}/{protocol}.tsv"
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.grade.mem_mb,
        runtime=STUDY.resources.grade.runtime_min,
        gpu=STUDY.resources.grade.gpus,
    params:
        grader=grader,
        contexts=contexts,
        folder=policy_folder,
    shell:
        "python -m spo judge --grader {params.grader} --contexts {params.contexts}"
        " --predictions {input.predictions} --problems {input.problems} --model {params.folder}"
        " --output {output.graded} > {log} 2>&1"


rule score:
    """Accuracy with its interval, and truncation rate, at every context."""
    input:
        graded="<results>/evals/{policy}/{dataset}/{protocol}/graded.jsonl",
        code=code("evaluation/score.py", "analysis/stats.py"),
    output:
        score="<results>/evals/{policy}/{dataset}/{protocol}/score.json",
    log:
        "<logs>/score/{policy}/{dataset}/{protocol}.log",
    benchmark:
        "<benchmarks>/score/{policy}/{dataset}/{protocol}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.score.mem_mb,
        runtime=STUDY.resources.score.runtime_min,
        gpu=STUDY.resources.score.gpus,
    params:
        grader=grader,
    shell:
        "python -m spo score --run {wildcards.policy} --dataset {wildcards.dataset} --protocol {wildcards.protocol}"
        " --grader {params.grader} --graded {input.graded} --output {output.score} > {log} 2>&1"
