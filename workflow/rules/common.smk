"""The study, read once, and what rules ask of it: paths, inputs, and the digest of each job's part.

A rule's parameter `part` is that digest: Snakemake repeats the jobs whose part changed and no others. The job itself reads
its settings from the file `CONFIG`, by its name.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import spo

# The package is found; from here on no file beside the Snakefile stands in for a module of the standard library.
sys.path.sort(key=lambda entry: os.path.abspath(entry) == os.path.abspath(workflow.basedir))

from spo import config as desk
from spo import locks, store
from spo.errors import RunFailure, UserError
from spo.paths import MODEL_FILES, SPLITS

# Snakemake imports pandas, if it is there, to compare parameters that may be data frames. Ours are text.
sys.modules.setdefault("pandas", None)
# `.venv/bin/snakemake` finds its own Python also where the environment is not activated.
os.environ.update(PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]))
# Jobs search no module in the folder where Snakemake runs, and take the package of this checkout.
SEARCHED = [os.path.join(os.path.abspath(workflow.basedir), "workflow/python"), os.environ.get("PYTHONPATH")]
os.environ.update(PYTHONSAFEPATH="1", PYTHONPATH=os.pathsep.join(filter(None, SEARCHED)))


# The function `logged` of all rules.
JOB_SCRIPT = os.path.join(os.path.abspath(workflow.basedir), "workflow/scripts/job.sh")
shell.prefix("source {}; ".format(shlex.quote(JOB_SCRIPT).replace("{", "{{").replace("}", "}}")))


def read_study():
    """Return the merged config files and their study; a mistake is one line and exit code 2.

    Config files are read here and not by `configfile:`, which takes the last of two equal keys, reads `1e-6` as text, and
    forgets what an overlay's `replace` needs to know. The Snakemake of a cluster job is handed the file that the main one
    wrote: see `write_study`.
    """
    files = [Path(os.path.relpath(path)) for path in workflow.overwrite_configfiles]
    if workflow.is_main_process or not files:
        files.insert(0, Path(os.path.relpath(workflow.basedir)) / "config/config.yaml")
        workflow.configfiles[:] = [path.absolute() for path in files]
    try:
        tell = (lambda line: print(line, file=sys.stderr)) if workflow.is_main_process else (lambda line: None)
        tree, study = desk.read(files, dict(workflow.config_settings.config), tell)
        desk.pictures(study)
        return tree, study
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def refuse_results_of_earlier_versions():
    """End in one line if nothing says which settings made the runs that are here: Snakemake would train them again."""
    if (
        workflow.is_main_process
        and not Path(PATHS.last_config).exists()
        and any(Path(PATHS.run("")).glob("*/metrics.jsonl"))
    ):
        print(
            f"config: results: {STUDY.results} has runs of an earlier version, which this one cannot continue. Move that "
            "folder away, or give this study another one.",
            file=sys.stderr,
        )
        sys.exit(2)


def write_study():
    """Write the study that jobs read: under the digest of its text, so that a later, edited study leaves it alone.

    Cluster jobs start a Snakemake of their own, which gets this file instead of the config files.
    """
    try:
        for path in (CONFIG, PATHS.last_config):
            store.write_text(path, TEXT)
    except RunFailure as error:
        print(f"spo: {error}", file=sys.stderr)
        sys.exit(1)
    workflow.config_settings.configfiles[:] = [Path(CONFIG).absolute()]


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
    done = Path(PATHS.rehearsal)
    if done.exists() and done.read_text(encoding="utf-8").startswith(JOBS.rehearsal_digest()):
        return
    ended = subprocess.run(["python", "-m", "spo", "rehearse", "--config", CONFIG])
    if ended.returncode:
        sys.exit(1)


TREE, STUDY = read_study()
TEXT, DIGEST = desk.written(TREE)
JOBS = desk.jobs.Jobs(STUDY)
PATHS = JOBS.paths
CONFIG = PATHS.config(DIGEST)
refuse_results_of_earlier_versions()
ALIVE = join_the_living()
FIGURES, TABLES = list(STUDY.figures), list(STUDY.tables)
RUNS, EVALUATIONS = JOBS.runs, JOBS.evaluations
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


def part_of(command, name=""):
    """Return the function that gives Snakemake the digest of a job's part; `name` is that of the job, with wildcards."""
    return lambda wildcards: JOBS.digest(command, name.format(**wildcards))


def config_file(wildcards, output):
    """Return the file that jobs read; `output` makes it a derived parameter, which repeats nothing if it changes."""
    return CONFIG


# ---- inputs: what a job waits for


def files_of(name):
    """Return the files of a policy that this study makes; none of an external one."""
    policy = JOBS.policy(name)
    return [f"{JOBS.folder(policy)}/{file}" for file in MODEL_FILES] if policy.path is None else []


def policy_files(wildcards):
    return files_of(wildcards.policy)


def sft_data(wildcards):
    # The splits give the tokenizer their words and are not trained on.
    dataset = STUDY.models[wildcards.model].sft.dataset
    return [PATHS.split(dataset, split) for split in ("demonstrations", *SPLITS)]


def run_data(wildcards):
    return [PATHS.split(RUNS[wildcards.run].dataset, split) for split in ("train", "validation")]


def run_model(wildcards):
    return files_of(RUNS[wildcards.run].start or RUNS[wildcards.run].model)


def run_priority(wildcards):
    return PRIORITY[wildcards.run]


def audit_policy(wildcards):
    run = JOBS.audited(wildcards.audit, wildcards.seed)
    needs_critic = JOBS.part("audit", f"{wildcards.audit}/s{wildcards.seed}").critic
    critic = [f"{PATHS.critic(run)}/{name}" for name in ("config.json", "model.safetensors")]
    return files_of(run) + (critic if needs_critic else [])


def audit_data(wildcards):
    return PATHS.split(RUNS[JOBS.audited(wildcards.audit, wildcards.seed)].dataset, "validation")


def trace_policy(wildcards):
    return files_of(JOBS.traced(wildcards.trace)[0])


def trace_data(wildcards):
    return PATHS.split(JOBS.traced(wildcards.trace)[1].dataset, "validation")


def picture_files(wildcards):
    picture = STUDY.figures[wildcards.figure] if "figure" in wildcards.keys() else STUDY.tables[wildcards.table]
    return [f"{STUDY.results}/{path}" for path in desk.reads(STUDY, picture)]


def report_pages(wildcards):
    return [PATHS.trajectories] if STUDY.traces else []


def report_files(wildcards):
    files = {path for key in STUDY.experiments for path in desk.experiment_files(STUDY, key)}
    return [f"{STUDY.results}/{path}" for path in sorted(files)]
