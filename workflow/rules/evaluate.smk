"""Evaluation: predictions once at the longest context, verdicts at every context, accuracies with intervals.

Predictions are kept apart from verdicts: an edited grader regrades, and never samples again.
"""


rule generate:
    """Predict a test set at the longest context; shorter ones are prefixes, cut when graded."""
    input:
        problems=PATHS.split("{dataset}", "test"),
        policy=policy_files,
    output:
        predictions=PATHS.predictions("{policy}", "{dataset}", "{protocol}"),
    log:
        PATHS.log("generate", "{policy}", "{dataset}", "{protocol}"),
    benchmark:
        PATHS.benchmark("generate", "{policy}", "{dataset}", "{protocol}")
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.generate.mem_mb,
        runtime=STUDY.resources.generate.runtime_min,
        gpu=STUDY.resources.generate.gpus,
    params:
        part=part_of("generate", "{policy}/{dataset}/{protocol}"),
        config=config_file,
    message:
        "generate {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol}"
    shell:
        "logged {log} python -m spo generate {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol} --config {params.config} --gpus {resources.gpu}"


rule grade:
    """Extract and judge the answer of every prediction at every context."""
    input:
        predictions=PATHS.predictions("{policy}", "{dataset}", "{protocol}"),
        problems=PATHS.split("{dataset}", "test"),
        policy=policy_files,
        code=code("grading/*.py", "evaluation/grade.py"),
    output:
        graded=PATHS.graded("{policy}", "{dataset}", "{protocol}"),
    log:
        PATHS.log("grade", "{policy}", "{dataset}", "{protocol}"),
    benchmark:
        PATHS.benchmark("grade", "{policy}", "{dataset}", "{protocol}")
    priority: 10
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.grade.mem_mb,
        runtime=STUDY.resources.grade.runtime_min,
        gpu=STUDY.resources.grade.gpus,
    params:
        part=part_of("grade", "{policy}/{dataset}/{protocol}"),
        config=config_file,
    message:
        "grade {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol}"
    shell:
        "logged {log} python -m spo grade {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol} --config {params.config}"


rule score:
    """Accuracy with its interval, and truncation rate, at every context."""
    input:
        graded=PATHS.graded("{policy}", "{dataset}", "{protocol}"),
        code=code("evaluation/score.py", "analysis/stats.py"),
    output:
        score=PATHS.score("{policy}", "{dataset}", "{protocol}"),
    log:
        PATHS.log("score", "{policy}", "{dataset}", "{protocol}"),
    benchmark:
        PATHS.benchmark("score", "{policy}", "{dataset}", "{protocol}")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=STUDY.resources.score.mem_mb,
        runtime=STUDY.resources.score.runtime_min,
        gpu=STUDY.resources.score.gpus,
    params:
        part=part_of("score", "{policy}/{dataset}/{protocol}"),
        config=config_file,
    message:
        "score {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol}"
    shell:
        "logged {log} python -m spo score {wildcards.policy}/{wildcards.dataset}/{wildcards.protocol} --config {params.config}"
