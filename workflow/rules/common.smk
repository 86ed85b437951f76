"""The study, read once, and the functions that give each rule its own slice of it.

A rule's `params` hold exactly the settings that its job depends on, as JSON: Snakemake reruns the jobs whose slice changed
and no others.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import spo

# The package is found; from here on no file beside the Snakefile stands in for a module of the standard library.
sys.path.sort(key=lambda entry: os.path.abspath(entry) == os.path.abspath(workflow.basedir))

from spo import config as desk
from spo import locks
from spo.errors import UserError
from spo.settings import Group, Train

# `.venv/bin/snakemake` finds its own Python also where the environment is not activated.
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))
# Jobs search no module in the folder where Snakemake runs, and take the package of this checkout.
SEARCHED = [os.path.join(os.path.abspath(workflow.basedir), "workflow/python"), os.environ.get("PYTHONPATH")]
os.environ.update(PYTHONSAFEPATH="1", PYTHONPATH=os.pathsep.join(filter(None, SEARCHED)))


# Rules keep the terminal as descriptor 3 (`3>&2`), which fails before their log is open if the caller has closed stderr.
shell.prefix("set -euo pipefail; ( : >&2 ) || exec 2> /dev/null; ")


def read_study():
    """The study, and the settings of its pictures; a mistake in the config is one line and exit code 2.

    Config files are read here and not by `configfile:`, which takes the last of two equal keys, reads `1e-6` as text, and
    forgets what an overlay's `replace` needs to know.
    """
    folder = Path(os.path.relpath(workflow.basedir))
    files = [folder / "config/config.yaml", *map(Path, map(os.path.relpath, workflow.overwrite_configfiles))]
    workflow.configfiles[:] = [path.absolute() for path in files]
    try:
        tell = (lambda line: print(line, file=sys.stderr)) if workflow.is_main_process else (lambda line: None)
        study = desk.load(files, dict(workflow.config_settings.config), tell)
        return study, desk.pictures(study, folder / "config/paper_numbers.yaml")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def join_the_living():
    """Return an open file that stands for this Snakemake; clear the lock files of one that was killed.

    Snakemake's own lock is files, which outlive a kill -9, and the next command would have to be `--unlock`. Every running
    Snakemake holds a shared lock of the kernel; if we get it exclusively, no other one is running. A job of a cluster
    takes none: the kernel of its machine may not know who runs on another. Where the file system has no locks, nobody
    knows who is alone, and Snakemake's lock files stay.
    """
    if not workflow.is_main_process:
        return None
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    alive = open(folder / "alive", "w")
    if locks.take(alive):
        shutil.rmtree(folder / "locks", ignore_errors=True)
    locks.take(alive, shared=True, wait=True)
    return alive


#: Rules whose jobs may take hours.
LONG = ("sft", "train", "train_with_critic", "generate", "audit")


def rehearse():
    """Try every figure, table and the report on made-up results before jobs that take long; end in one line if one fails.

    Not a rule, though it was one: jobs that wait for a rule have to run again with it, and Snakemake 9.27 looks for no
    other reason to run a job if an `ancient` input of it is made again. What was tried is not tried again until its
    settings or its code change.
    """
    if workflow.touch or not any(job.rule.name in LONG for job in workflow.dag.needrun_jobs()):
        return
    plan = desk.slice_json(desk.rehearsed(STUDY, desk.NUMBERS))
    done = Path(STUDY.results, "rehearsal.txt")
    digest = desk.digest(plan, [Path(path).read_text(encoding="utf-8") for path in code("analysis/*.py")])
    if done.exists() and done.read_text(encoding="utf-8").startswith(digest):
        return
    command = ["python", "-m", "spo", "rehearse", "--digest", digest, "--output", done]
    ended = subprocess.run(command, input=plan, encoding="utf-8")
    if ended.returncode:
        sys.exit(1)


STUDY, PICTURES = read_study()
ALIVE = join_the_living()
FIGURES, TABLES = list(STUDY.figures), list(STUDY.tables)
RUNS, EVALUATIONS = desk.runs(STUDY), desk.evaluations(STUDY)
CRITICS = [name for name, run in RUNS.items() if run.train.credit.kind == "critic"]
AUDITS = [path for key in STUDY.audits for path in desk.audit_files(STUDY, key)]
PRIORITY = {run: 20 + place for place, run in enumerate(desk.shortest_first(STUDY))}


def one_of(names):
    """A regular expression for any of the names; without it a wildcard would match slashes."""
    return "|".join(map(re.escape, names)) or "(?!)"


def code(*patterns):
    """Source files of `spo/`, as input of rules that are cheap to repeat when their code changes.

    Training and generation do not list theirs: after a change there, remove the state folders of what it outdates and
    say what to repeat, as in `snakemake -R train`.
    """
    folder = Path(os.path.relpath(workflow.basedir)) / "spo"
    return sorted(str(path) for pattern in patterns for path in folder.glob(pattern))


def command():
    """What to type to make this study again."""
    files = " ".join(os.path.relpath(path, workflow.basedir) for path in workflow.overwrite_configfiles)
    return f"snakemake --cores all --configfile {files}" if files else "snakemake --cores all"


# ---- files ----------------------------------------------------------------------------------------------------------


MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def model_folder(model):
    """Where a starting policy is: made here, or the folder or hub id that the config names."""
    settings = STUDY.models[model]
    if settings.path and settings.revision:
        return f"{settings.path}@{settings.revision}"
    return settings.path or f"{STUDY.results}/models/{model}"


def model_files(model):
    """What a job waits for before it opens a starting policy; nothing for one that is not made here."""
    return [f"{model_folder(model)}/{name}" for name in MODEL_FILES] if STUDY.models[model].sft else []


def sft_data_folder(wildcards):
    return f"{STUDY.results}/data/{STUDY.models[wildcards.model].sft.dataset}"


def sft_data(wildcards):
    # The splits give the tokenizer their words and are not trained on.
    splits = ("demonstrations", "train", "validation", "test")
    return [f"{sft_data_folder(wildcards)}/{split}.jsonl" for split in splits]


def run_data_folder(wildcards):
    return f"{STUDY.results}/data/{RUNS[wildcards.run].dataset}"


def run_data(wildcards):
    return [f"{run_data_folder(wildcards)}/{split}.jsonl" for split in ("train", "validation")]


def run_model(wildcards):
    return files_of(RUNS[wildcards.run].start or RUNS[wildcards.run].model)


def folder_of(policy):
    """Where the model of a run or a starting policy is."""
    return f"{STUDY.results}/runs/{policy}/model" if policy in RUNS else model_folder(policy)


def files_of(policy):
    """What a job waits for before it opens that model."""
    return [f"{folder_of(policy)}/{name}" for name in MODEL_FILES] if policy in RUNS else model_files(policy)


def policy_folder(wildcards):
    return folder_of(wildcards.policy)


def policy_files(wildcards):
    return files_of(wildcards.policy)


def pictures_folder(wildcards):
    return STUDY.pictures


def picture_files(wildcards):
    picture = STUDY.figures[wildcards.figure] if "figure" in wildcards.keys() else STUDY.tables[wildcards.table]
    return [f"{STUDY.results}/{path}" for path in desk.reads(STUDY, picture)]


def report_pages(wildcards):
    return [f"{STUDY.results}/trajectories.html"] if STUDY.traces else []


def report_files(wildcards):
    files = {path for key in STUDY.experiments for path in desk.experiment_files(STUDY, key)}
    return [f"{STUDY.results}/{path}" for path in sorted(files)]


# ---- where training and generation keep their progress: in no rule's output, since Snakemake deletes outputs -----------


# The folder is named by all settings that its content depends on: a changed setting begins in a new folder, and going back to
# the old one finds the old progress.


def model_digest(model):
    settings = dataclasses.replace(STUDY.models[model], parameters=None)  # that is for `plan`
    return desk.digest(settings, STUDY.datasets[settings.sft.dataset] if settings.sft else None)


def model_state(wildcards):
    return f"{STUDY.results}/state/{wildcards.model}/{model_digest(wildcards.model)}"


def run_digest(name):
    run = RUNS[name]
    start = run_digest(run.start) if run.start else model_digest(run.model)
    return desk.digest(run.train, asked_of_run(name), start)


def run_state(wildcards):
    return f"{STUDY.results}/state/{wildcards.run}/{run_digest(wildcards.run)}"


def predictions_state(wildcards):
    return f"{STUDY.results}/state/{wildcards.policy}/{wildcards.dataset}-{wildcards.protocol}"


# ---- settings -------------------------------------------------------------------------------------------------------


def dataset_settings(wildcards):
    return desk.slice_json(STUDY.datasets[wildcards.dataset])


def sft_settings(wildcards):
    return desk.slice_json(STUDY.models[wildcards.model])


def sft_dataset(wildcards):
    return desk.slice_json(STUDY.datasets[STUDY.models[wildcards.model].sft.dataset])


def run_settings(wildcards):
    return desk.slice_json(RUNS[wildcards.run].train)


def run_dataset(wildcards):
    return desk.slice_json(asked_of_run(wildcards.run))


def asked_of_run(run):
    """The dataset of a run as its model is asked it."""
    return desk.asked(STUDY, RUNS[run].dataset, RUNS[run].model)


def policy_dataset(wildcards):
    """A test set as the model of a policy is asked it."""
    policy = wildcards.policy
    return desk.slice_json(desk.asked(STUDY, wildcards.dataset, RUNS[policy].model if policy in RUNS else policy))


def run_start(wildcards):
    return folder_of(RUNS[wildcards.run].start or RUNS[wildcards.run].model)


def run_priority(wildcards):
    return PRIORITY[wildcards.run]


def protocol_settings(wildcards):
    return desk.slice_json(STUDY.protocols[wildcards.protocol])


def contexts(wildcards):
    return list(EVALUATIONS[wildcards.policy, wildcards.dataset, wildcards.protocol].contexts)


def longest_context(wildcards):
    return max(contexts(wildcards))


def grader(wildcards):
    return STUDY.datasets[wildcards.dataset].grader


def figure_settings(wildcards):
    return PICTURES[wildcards.figure]


def table_settings(wildcards):
    return PICTURES[wildcards.table]


def page_settings(wildcards):
    shown = [
        {"title": trace.title or key, "file": desk.trace_file(key), "policy": policy_label(traced(key)[0])}
        for key, trace in STUDY.traces.items()
    ]
    return desk.slice_json({"title": f"Trajectories, {STUDY.title or STUDY.study}", "traces": shown})


def policy_label(policy):
    """A policy as readers know it."""
    if policy not in RUNS:
        return f"the starting policy {policy}"
    return f"{STUDY.methods[RUNS[policy].method].label}, seed {RUNS[policy].train.seed}"


def report_settings(wildcards):
    return desk.slice_json(desk.report_slice(STUDY, command()))


# ---- looking inside -------------------------------------------------------------------------------------------------

#: What an audit or a trace depends on, of the settings that its policy was trained with.
SAMPLING = ("sampling", "context_tokens", "max_response_tokens", "stop_texts", "unfinished_reward")
SAMPLING += ("backend", "dtype", "memory", "seed")


def sampling_slice(train):
    """Training settings with everything at its default that does not change what is sampled."""
    plain = Train(credit=Group(), **{name: getattr(train, name) for name in SAMPLING})
    passes = dataclasses.replace(plain.optimizer, micro_batch_tokens=train.optimizer.micro_batch_tokens)
    return desk.slice_json(dataclasses.replace(plain, optimizer=passes))


def audited(wildcards):
    """Name of the run whose policy an audit looks at."""
    plan = STUDY.audits[wildcards.audit]
    return desk.plan.run_name(STUDY.experiments[plan.experiment], plan.method, wildcards.seed)


def audit_folder(wildcards):
    return folder_of(audited(wildcards))


def audit_policy(wildcards):
    return files_of(audited(wildcards)) + (critic_files(audited(wildcards)) if needs_critic(wildcards.audit) else [])


def audit_critic(wildcards):
    return f"--critic {critic_folder(audited(wildcards))}" if needs_critic(wildcards.audit) else ""


def audit_data(wildcards):
    return f"{STUDY.results}/data/{RUNS[audited(wildcards)].dataset}/validation.jsonl"


def audit_settings(wildcards):
    return desk.slice_json(STUDY.audits[wildcards.audit].audit)


def audit_train(wildcards):
    return sampling_slice(RUNS[audited(wildcards)].train)


def audit_dataset(wildcards):
    return desk.slice_json(asked_of_run(audited(wildcards)))


def needs_critic(audit):
    return any(credit.kind == "critic" for credit in STUDY.audits[audit].audit.estimators.values())


def critic_folder(run):
    return f"{STUDY.results}/runs/{run}/critic"


def critic_files(run):
    return [f"{critic_folder(run)}/{name}" for name in ("config.json", "model.safetensors")]


def traced(key):
    """A trace's policy, and the training settings by which it samples: of its run, or of the first run to start from it."""
    plan = STUDY.traces[key]
    experiment = STUDY.experiments[plan.experiment]
    method = plan.method or desk.plan.trained(STUDY, experiment)[0]
    run = desk.plan.run_name(experiment, method, experiment.seeds[0])
    return (run if plan.method else experiment.model), RUNS[run].train


def traced_dataset(key):
    return STUDY.experiments[STUDY.traces[key].experiment].dataset


def trace_folder(wildcards):
    return folder_of(traced(wildcards.trace)[0])


def trace_policy(wildcards):
    return files_of(traced(wildcards.trace)[0])


def trace_data(wildcards):
    return f"{STUDY.results}/data/{traced_dataset(wildcards.trace)}/validation.jsonl"


def trace_settings(wildcards):
    return desk.slice_json(STUDY.traces[wildcards.trace].trace)


def trace_train(wildcards):
    return sampling_slice(traced(wildcards.trace)[1])


def trace_dataset(wildcards):
    plan = STUDY.traces[wildcards.trace]
    return desk.slice_json(desk.asked(STUDY, traced_dataset(wildcards.trace), STUDY.experiments[plan.experiment].model))
