"""The study, read once, and the functions that give each rule its own slice of it.

A rule's `params` hold exactly the settings that its job depends on, as JSON: Snakemake reruns the jobs whose slice changed
and no others.
"""

import fcntl
import os
import re
import shutil
import sys
from pathlib import Path

from spo import config as desk
from spo.errors import UserError

# `.venv/bin/snakemake` finds its own Python also where the environment is not activated.
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))


def read_study():
    """The study, and the settings of its pictures; a mistake in the config is one line and exit code 2.

    Config files are read here and not by `configfile:`, which takes the last of two equal keys, reads `1e-6` as text, and
    forgets what an overlay's `replace` needs to know.
    """
    folder = Path(os.path.relpath(workflow.basedir))
    files = [folder / "config/config.yaml", *map(Path, map(os.path.relpath, workflow.overwrite_configfiles))]
    workflow.configfiles[:] = [path.absolute() for path in files]
    try:
        study = desk.load(files, dict(workflow.config_settings.config))
        return study, desk.pictures(study, folder / "config/paper_numbers.yaml")
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def join_the_living():
    """An open file that stands for this Snakemake; clears the lock files of one that was killed.

    Snakemake's own lock is files, which outlive a kill -9, and the next command would have to be `--unlock`. This lock is
    the kernel's and ends with its process: all who live share it, and who can have it alone is alone.
    """
    folder = Path(".snakemake")
    folder.mkdir(exist_ok=True)
    alive = open(folder / "alive", "w")
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder / "locks", ignore_errors=True)
    except BlockingIOError:
        pass  # another one lives here: its lock stands
    fcntl.flock(alive, fcntl.LOCK_SH)
    return alive


STUDY, PICTURES = read_study()
ALIVE = join_the_living()
FIGURES, TABLES = list(STUDY.figures), list(STUDY.tables)
RUNS, EVALUATIONS = desk.runs(STUDY), desk.evaluations(STUDY)
PRIORITY = {run: 20 + place for place, run in enumerate(desk.shortest_first(RUNS.values()))}


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
    return STUDY.models[model].path or f"{STUDY.results}/models/{model}"


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
    return model_files(RUNS[wildcards.run].model)


def policy_folder(wildcards):
    policy = wildcards.policy
    return f"{STUDY.results}/runs/{policy}/model" if policy in RUNS else model_folder(policy)


def policy_files(wildcards):
    if wildcards.policy not in RUNS:
        return model_files(wildcards.policy)
    return [f"{policy_folder(wildcards)}/{name}" for name in MODEL_FILES]


def pictures_folder(wildcards):
    return STUDY.pictures


def picture_files(wildcards):
    picture = STUDY.figures[wildcards.figure] if "figure" in wildcards.keys() else STUDY.tables[wildcards.table]
    return [f"{STUDY.results}/{path}" for path in desk.reads(STUDY, picture)]


def report_files(wildcards):
    files = {path for key in STUDY.experiments for path in desk.experiment_files(STUDY, key)}
    return [f"{STUDY.results}/{path}" for path in sorted(files)]


# ---- where training and generation keep their progress: in no rule's output, since Snakemake deletes outputs -----------


# The folder is named by all settings that its content depends on: a changed setting begins in a new folder, and going back to
# the old one finds the old progress.


def model_digest(model):
    settings = STUDY.models[model]
    return desk.digest(settings, STUDY.datasets[settings.sft.dataset] if settings.sft else None)


def model_state(wildcards):
    return f"{STUDY.results}/state/{wildcards.model}/{model_digest(wildcards.model)}"


def run_state(wildcards):
    run = RUNS[wildcards.run]
    digest = desk.digest(run.train, STUDY.datasets[run.dataset], model_digest(run.model))
    return f"{STUDY.results}/state/{wildcards.run}/{digest}"


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
    return desk.slice_json(STUDY.datasets[RUNS[wildcards.run].dataset])


def run_start(wildcards):
    return model_folder(RUNS[wildcards.run].model)


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


def report_settings(wildcards):
    return desk.slice_json(desk.report_slice(STUDY, command()))
