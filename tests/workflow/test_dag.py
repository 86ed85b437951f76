"""What Snakemake would do, asked by dry runs: style of the rules, speed, and what is repeated after a change."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spo.config.resources import Resources
from tests.workflow.conftest import ROOT, SMOKE, Checkout, Ended, environment

RULES = sorted([ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")])


def test_lint(checkout: Checkout) -> None:
    ended = checkout.snakemake("--lint")
    assert ended.code == 0, ended.text


def test_format() -> None:
    command = [sys.executable, "-m", "snakefmt", "--check", *map(str, RULES)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_rule_says_what_it_does_costs_and_writes() -> None:
    for path in RULES[1:]:
        for rule in re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name = rule.partition(":")[0]
            for part in (
                '"""',
                "output:",
                "log:",
                "benchmark:",
                "conda:",
                "threads: STUDY.resources.train.processes" if name == "train" else "threads: 1",
                "resources:",
                "mem_mb=",
                "runtime=",
                "gpu=",
            ):
                assert part in rule, f"{name} lacks {part}"
            for block in ("input", "output"):
                found = re.search(rf"^    {block}:\n((?:        .*\n)+)", rule, flags=re.MULTILINE)
                entries = re.findall(r"^        (\S.*)$", found[1], flags=re.MULTILINE) if found else []
                assert all("=" in entry or entry.startswith(")") for entry in entries), f"{name}: unnamed {block}"


def test_a_dry_run_needs_little_of_a_processor(checkout: Checkout) -> None:
    ended = checkout.snakemake("-n")
    assert ended.code == 0, ended.text
    assert ended.cpu_seconds < 5.0  # 1.5 on an idle machine; importing torch alone doubles it
    jobs = ended.jobs()
    assert jobs["sft"] == 2 and jobs["audit"] == jobs["train_with_critic"] == 5
    assert jobs["generate"] == jobs["grade"] == jobs["score"] > jobs["train"] + jobs["train_with_critic"]


PAPER_TINY = ("--configfile", "config/paper.yaml", "config/paper_tiny.yaml")


@pytest.mark.parametrize("overlay", [(), SMOKE, ("--configfile", "config/gsm8k_tiny.yaml"), PAPER_TINY])
def test_every_study_has_a_plan(checkout: Checkout, overlay: tuple[str, ...]) -> None:
    ended = checkout.snakemake("-n", *overlay)
    assert ended.code == 0, ended.text
    assert {"prepare", "sft", "train", "generate", "grade", "score", "figure", "table", "report"} <= set(ended.jobs())


def test_the_smoke_study_has_every_rule(checkout: Checkout) -> None:
    rules = set(re.findall(r"^(?:use )?rule (?:train as )?(\w+)", "\n".join(map(Path.read_text, RULES)), re.MULTILINE))
    groups = {"models", "scores", "audits", "traces", "figures", "tables", "plan"}
    assert rules - groups == set(checkout.snakemake("-n", *SMOKE).jobs())


def test_reading_a_study_imports_nothing_heavy() -> None:
    program = (
        "import sys; from pathlib import Path; from spo import config;"
        "study = config.load([Path('config/config.yaml')]); config.pictures(study);"
        "config.forecast(study);"
        "heavy = {'torch', 'transformers', 'datasets', 'tokenizers', 'safetensors', 'pandas', 'scipy', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_named_targets_are_what_one_would_type(checkout: Checkout) -> None:
    listed = checkout.snakemake("--list").text
    groups = ("all", "models", "scores", "audits", "traces", "figures", "tables", "report", "trajectories")
    for name in (*groups, "fig3a", "fig3c", "fig5a", "fig12", "fig_credit", "table1", "claims"):
        assert re.search(rf"^{name}\b", listed, flags=re.MULTILINE), name
    bars, curves = checkout.snakemake("-n", "fig3a").jobs(), checkout.snakemake("-n", "fig3c").jobs()
    assert bars["figure"] == curves["figure"] == 1 and "report" not in bars
    assert "generate" in bars and "generate" not in curves  # learning curves are drawn from training alone


def trained(ended: Ended) -> set[str]:
    """Runs that a dry run would train."""
    return set(re.findall(r"^Job \d+: train (\S+)$", ended.text, flags=re.MULTILINE))


GPU = {"sft": {"gpus": 1, "mem_mb": 5000}, "train": {"gpus": 2}}


def spelt_out(checkout: Checkout) -> Checkout:
    """Without the messages of rules, so that Snakemake shows each job's inputs, outputs and resources."""
    for path in (checkout.folder / "workflow/rules").glob("*.smk"):
        rules = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"    message:\n        .*\n", "", rules), encoding="utf-8")
    return checkout


def asked(text: str, rule: str) -> dict[str, str]:
    """Return what the first job of a rule asks for, by a dry run of rules that are spelt out."""
    found = re.search(rf"^rule {rule}:\n(?:    .*\n)*?    resources: (.*)$", text, flags=re.MULTILINE)
    return dict(part.split("=", 1) for part in found[1].split(", "))


def test_every_rule_asks_for_what_the_config_says(checkout: Checkout) -> None:
    written = "\n".join(path.read_text(encoding="utf-8") for path in RULES)
    for field in dataclasses.fields(Resources):
        for key in ("mem_mb=", "runtime=", "gpu="):
            assert written.count(f"{key}STUDY.resources.{field.name}.") == 1, field.name
    ended = spelt_out(checkout).snakemake(
        "-n", "-p", "fig3a", "--resources", "gpu=4", *checkout.overlay("m.yaml", {"resources": GPU})
    )
    assert ended.code == 0, ended.text
    sft, train, score = (asked(ended.text, rule) for rule in ("sft", "train", "score"))
    assert (sft["mem_mb"], sft["runtime"], sft["gpu"], train["gpu"], score["gpu"]) == ("5000", "120", "1", "2", "0")
    assert "spo sft" in ended.text and "--gpus 1" in ended.text and "--gpus 2" in ended.text


def test_processes_of_a_run_have_a_core_each(checkout: Checkout) -> None:
    resources = {"train": {"gpus": 2, "processes": 2}, "train_with_critic": {"processes": 3}}
    overlay = checkout.overlay("m.yaml", {"resources": resources})
    runs = [f"results/runs/pupil-stories-{method}-s1/metrics.jsonl" for method in ("grpo", "ppo")]
    ended = spelt_out(checkout).snakemake("-n", "-p", *runs, "--cores", "4", "--resources", "gpu=2", *overlay)
    assert ended.code == 0, ended.text
    assert "--gpus 2 --processes 2\n" in ended.text and "--gpus 0 --processes 3\n" in ended.text
    assert [asked(ended.text, rule)["processes"] for rule in ("train", "train_with_critic")] == ["2", "3"]
    threads = re.findall(r"^rule train\w*:\n(?:    .*\n)*?    threads: (\d)", ended.text, flags=re.MULTILINE)
    assert sorted(threads) == ["2", "3"]
    plain = checkout.snakemake("-n", "-p", *runs).text
    assert plain.count("--processes 1\n") == 2 and "threads:" not in plain


def test_more_processes_than_gpus_are_one_line(checkout: Checkout) -> None:
    ended = checkout.snakemake("-n", *checkout.overlay("m.yaml", {"resources": {"train": {"gpus": 1, "processes": 2}}}))
    said = "m.yaml:4: resources.train.processes: 2, but resources.train.gpus is 1, and each takes one"
    assert ended.code == 2 and said in ended.text


def test_one_gpu_at_once_unless_told_otherwise(checkout: Checkout) -> None:
    """A job that wants two may have as many as there are."""
    overlay = checkout.overlay("m.yaml", {"resources": GPU})
    assert asked(spelt_out(checkout).snakemake("-n", "fig3a", *overlay).text, "train")["gpu"] == "1"


def test_a_study_says_what_it_would_take(checkout: Checkout) -> None:
    alone = checkout.run(sys.executable, "-m", "spo", "plan", "config/config.yaml", "config/smoke.yaml")
    assert alone.code == 0 and "These are estimates, not measurements" in alone.out and "  in all " in alone.out
    ended = checkout.snakemake("--cores", "1", "plan", *SMOKE)
    assert ended.code == 0 and alone.out in ended.text
    assert not (checkout.folder / "results/smoke/data").exists()


def test_resources_repeat_nothing(finished: Checkout) -> None:
    path = finished.folder / "config/config.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nresources: {train: {gpus: 1}}\n", encoding="utf-8")
    assert "Nothing to be done" in finished.snakemake("-n").text


def test_a_wrong_rule_in_resources_is_one_line(checkout: Checkout) -> None:
    ended = checkout.snakemake("-n", *checkout.overlay("m.yaml", {"resources": {"trian": {"gpus": 1}}}))
    assert ended.code == 2 and "m.yaml:2: resources.trian: unknown key (did you mean train?)" in ended.text


def test_slurm_is_asked_for_the_same(checkout: Checkout) -> None:
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="the extra `slurm` is not installed")
    overlay = ("--configfile", "config/paper.yaml")
    run = "results/paper/runs/rho-gsm8k-grpo-s42/metrics.jsonl"
    ended = spelt_out(checkout).snakemake("-n", run, "--workflow-profile", "profiles/slurm", *overlay)
    assert ended.code == 0, ended.text
    prepare, train = asked(ended.text, "prepare"), asked(ended.text, "train")
    assert (train["gpu"], train["mem_mb"], train["runtime"], train["cpus_per_gpu"]) == ("1", "96000", "8000", "8")
    assert (prepare["gpu"], prepare["mem_mb"], prepare["runtime"]) == ("0", "8000", "30")


def test_the_profiles_agree_where_they_are_about_the_same() -> None:
    default, slurm = (
        yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text(encoding="utf-8"))
        for name in ("default", "slurm")
    )
    assert {key: slurm[key] for key in default if key != "resources"} == {
        key: value for key, value in default.items() if key != "resources"
    }
    assert default["resources"] == ["gpu=1"] and "resources" not in slurm


def test_a_finished_study_has_nothing_to_do(finished: Checkout) -> None:
    assert "Nothing to be done" in finished.snakemake("-n").text


def test_another_wording_of_rules_repeats_nothing(finished: Checkout) -> None:
    for name in ("data", "train", "evaluate"):
        path = finished.folder / f"workflow/rules/{name}.smk"
        path.write_text(path.read_text(encoding="utf-8").replace("python -m spo", "python -P -m spo"), encoding="utf-8")
    assert "Nothing to be done" in finished.snakemake("-n").text


def test_a_colour_redraws_and_never_retrains(finished: Checkout) -> None:
    text = (finished.folder / "config/config.yaml").read_text(encoding="utf-8")
    colour = re.search(r'spo_tree: "(#\w+)"', text)[1]
    finished.edit("config/config.yaml", (f'spo_tree: "{colour}"', 'spo_tree: "#123456"'))
    jobs = finished.snakemake("-n").jobs()
    assert jobs.keys() <= {"figure", "table", "report", "all"}
    assert 3 <= jobs["figure"] < finished.snakemake("-n", "--forceall").jobs()["figure"]


def test_a_learning_rate_retrains_its_method_only(finished: Checkout) -> None:
    overlay = finished.overlay("mine.yaml", {"methods": {"spo_tree": {"train": {"optimizer": {"lr": 3.3e-5}}}}})
    ended = finished.snakemake("-n", *overlay)
    runs = trained(ended)
    assert runs and all(re.search(r"-spo_tree(\.\w+)?-s", run) for run in runs)
    jobs = ended.jobs()
    assert jobs["train"] == len(runs) == jobs["generate"] == jobs["score"]
    assert not {"sft", "prepare", "audit", "trace"} & jobs.keys()


def test_a_new_seed_adds_runs_and_repeats_none(finished: Checkout) -> None:
    overlay = finished.overlay("mine.yaml", {"experiments": {"short_cot": {"seeds": [1, 2, 3, 4, 5, 6]}}})
    ended = finished.snakemake("-n", *overlay)
    runs = trained(ended)
    assert runs and all(run.endswith("-s6") for run in runs)


def test_a_shorter_context_regrades_and_never_predicts_again(finished: Checkout) -> None:
    overlay = finished.overlay("mine.yaml", {"experiments": {"short_cot": {"contexts": [64, 384]}}})
    jobs = finished.snakemake("-n", *overlay).jobs()
    assert jobs["grade"] and "train" not in jobs and "generate" not in jobs


def test_an_edited_grader_regrades_and_never_predicts_again(finished: Checkout) -> None:
    path = finished.folder / "spo/grading/__init__.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    jobs = finished.snakemake("-n").jobs()
    assert jobs["grade"] == jobs["score"] > 0 and jobs["figure"] and jobs["report"]
    assert not {"prepare", "sft", "train", "generate", "audit", "trace"} & jobs.keys()


def test_an_edited_figure_redraws_only(finished: Checkout) -> None:
    path = finished.folder / "spo/analysis/figures.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    assert finished.snakemake("-n").jobs().keys() <= {"figure", "table", "report", "trajectories", "all"}


def test_an_audit_is_measured_again_and_nothing_trained(finished: Checkout) -> None:
    overlay = finished.overlay("mine.yaml", {"audits": {"credit": {"audit": {"truth_rollouts": 99}}}})
    jobs = finished.snakemake("-n", *overlay).jobs()
    assert jobs["audit"] == 5 and jobs["figure"] == 1
    assert jobs.keys() <= {"audit", "figure", "table", "report", "all"}


def test_a_trace_is_written_again_alone(finished: Checkout) -> None:
    overlay = finished.overlay("mine.yaml", {"traces": {"stories": {"trace": {"chain": {"rollouts_per_cut": 3}}}}})
    jobs = finished.snakemake("-n", *overlay).jobs()
    assert jobs["trace"] == jobs["trajectories"] == jobs["figure"] == 1
    assert jobs.keys() <= {"trace", "trajectories", "figure", "report", "all"}
    overlay = finished.overlay("mine.yaml", {"traces": {"stories": {"title": "another"}}})
    assert finished.snakemake("-n", *overlay).jobs().keys() <= {"trajectories", "report", "all"}


def test_a_critic_is_kept_where_an_audit_asks_for_it(checkout: Checkout) -> None:
    """Of runs that train one, and of no others."""
    folder = "results/runs/pupil-stories-{}-s1/critic/model.safetensors"
    assert checkout.snakemake("-n", folder.format("ppo")).jobs()["train_with_critic"] == 1
    assert checkout.snakemake("-n", folder.format("grpo")).code != 0
    audit = spelt_out(checkout).snakemake("-n", "results/audits/credit/s1.jsonl").text
    assert re.search(r"^    input: .*results/runs/pupil-stories-ppo-s1/critic/model.safetensors", audit, re.MULTILINE)


def test_a_run_can_start_from_another_run(checkout: Checkout) -> None:
    """It waits for that run's model."""
    second = {"base": "grpo", "label": "GRPO, then 256 tokens", "start": "grpo", "train": {"context_tokens": 256}}
    overlay = checkout.overlay(
        "mine.yaml",
        {
            "methods": {"grpo.second": second},
            "experiments": {"long_cot": {"methods": ["grpo", "grpo.mask", "spo_tree", "grpo.second"]}},
        },
    )
    wanted = "results/runs/sleuth-knights-grpo.second-s2/model/model.safetensors"
    ended = spelt_out(checkout).snakemake("-n", "-p", wanted, *overlay)
    assert ended.code == 0, ended.text
    assert ended.jobs()["train"] == 2
    (waits,) = re.findall(
        r"^    input: (.*)\n    output: results/runs/sleuth-knights-grpo.second", ended.text, re.MULTILINE
    )
    assert "results/runs/sleuth-knights-grpo-s2/model/model.safetensors" in waits


def test_a_policy_of_others_is_evaluated_and_not_trained(checkout: Checkout) -> None:
    experiment = {"model": "pupil", "dataset": "stories", "methods": ["freshman"], "seeds": [1, 2]}
    experiment |= {"contexts": [256], "protocols": ["greedy"]}
    overlay = checkout.overlay(
        "mine.yaml",
        {
            "models": {"freshman": {"sft": {"dataset": "stories", "steps": 10, "seed": 5}}},
            "methods": {"freshman": {"label": "Freshman", "policy": "freshman"}},
            "experiments": {"others": experiment},
            "figures": {"others": {"draw": "accuracy_bars", "title": "Others", "experiment": "others"}},
        },
    )
    ended = checkout.snakemake("-n", "-p", "others", *overlay)
    assert ended.code == 0, ended.text
    jobs = ended.jobs()
    assert jobs["sft"] == jobs["generate"] == jobs["score"] == 2 and "train" not in jobs
    assert "spo generate freshman/stories/greedy --config " in ended.text


def test_another_study_touches_nothing_of_this_one(finished: Checkout) -> None:
    ended = spelt_out(finished).snakemake("-n", *SMOKE)
    outputs = re.findall(r"^    output: (.*)$", ended.text, flags=re.MULTILINE)
    assert outputs and all(Path(path).is_relative_to("results/smoke") for line in outputs for path in line.split(", "))
