"""config/paper.yaml has the settings that the paper's runs had, number by number."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spo import config
from spo.analysis.slices import OF_VALIDATION
from spo.config import layers
from spo.config.plan import train_settings, trained
from spo.settings import Accepted, Chain, Critic, Group, Loss, Optimizer, Pairs, Partition, Replay, Train, Tree
from spo.types import Sampling
from tests.paper_prompts import MESSAGE, PROMPTS, R1

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
STUDY = config.load([CONFIG / "config.yaml", CONFIG / "paper.yaml"])

# Rows of the table of spec §1.8 that the study runs, in its columns:
# it · q · n · ep · bs/mb · epo · mask · ctx · max_tok · M. A comment says what the rows below it follow instead.
SHIPPED = """
short_cot         spo_chain                  1000  64    8  512   64/8  2 on   2047 1024 -
intervals         spo_chain.int2             1000  64    8  512   64/8  2 on   2047 1024 -
intervals         spo_chain.int100           1000  64    8  512   64/8  2 on   2047 1024 -
mask              spo_chain.no_mask          1000  64    8  512   64/8  2 off  2047 1024 -
partitions        spo_chain.fixed_count      1000  64    8  512   64/8  2 off  2047 1024 -
short_cot         vineppo                    1000  64    8  512   64/8  2 off  2047 1024 -
short_cot         grpo                       1000  64    8  512   64/8  2 off  2047 1024 -
mask              grpo.mask                  1000  64    8  512   64/8  2 on   2047 1024 -
short_cot         rloo                        650  64    8  512   64/8  2 off  2047 1024 -
short_cot         ppo                         650  64    8  512   64/8  2 on   2047 1024 -
short_cot         restem                       10 7100   8    -   64/8  8 off  2047 1024 -
short_cot         dpo_positive                  1 7100  64    -  128/8  3 off  2047 1024 -
# Two episodes are a pair, of which the table counts 64 in a batch (spec §4.5): the row above has 128.
# Episodes of the overlays branch_factor_{666,444,888} (spec §1.3); the table's 1024 is without overlay.
short_cot         spo_tree                   1000  16    -  512  128/8  1 on   2047 1024 30
tree_shapes       spo_tree.small             1000  16    -  384  128/8  1 on   2047 1024 30
tree_shapes       spo_tree.large             1000  16    - 1024  128/8  1 on   2047 1024 30
tree_std          spo_tree.std               1000  16    -  512  128/8  1 on   2047 1024 30
policy_iteration  spo_tree.policy_iteration  1000  16    - 1024  128/8  1 on   2047 1024 30
long_cot          grpo                       1000  64    8  512  128/2  1 off  2048 4096 -
long_cot          grpo.mask                  1000  64    8  512  128/2  1 on   2048 4096 -
long_cot          spo_tree                   1000  32    -  512  128/2  1 on   2048 4096 600
# No config is shipped for 4K: the 2K row at another context (spec §3.7).
long_cot          grpo.4k                    1000  64    8  512  128/2  1 off  4096 4096 -
long_cot          spo_tree.4k                1000  32    -  512  128/2  1 on   4096 4096 600
large             spo_chain                  1000  64    8  512  128/8  2 on   2048 1024 -
qwen_half_gsm8k   spo_chain                  1000  64    8  512  128/2  1 on   1024 4096 -
qwen_half_gsm8k   spo_tree                   1000  32    -  512  128/2  1 on   1024 4096 100
qwen_math_math    grpo                       1000  64    8  512  128/2  1 off  1024 4096 -
qwen_math_math    spo_chain                  1000  64    8  512  128/2  1 on   1024 4096 -
qwen_math_math    spo_tree                   1000  16    -  512  128/2  1 on   1024 4096 100
"""
ROWS = [line.split() for line in SHIPPED.splitlines() if line and not line.startswith("#")]
RUNS = [(key, method) for key, experiment in STUDY.experiments.items() for method in trained(STUDY, experiment)]


def episodes(train: Train) -> str:
    if isinstance(train.credit, Tree):
        return str(train.credit.episodes_per_iteration)
    if isinstance(train.credit, Chain | Group | Critic):
        return str(train.problems_per_iteration * train.credit.samples_per_problem)
    return "-"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_settings_are_those_of_the_shipped_configs(row: list[str]) -> None:
    experiment, method, *expected = row
    train = train_settings(STUDY, method, experiment)
    credit = train.credit
    found = [
        train.iterations,
        train.problems_per_iteration,
        getattr(credit, "samples_per_problem", "-"),
        episodes(train),
        f"{train.batch_episodes}/{train.loss.micro_batch_episodes}",
        train.epochs,
        {0.9: "on", None: "off"}[train.loss.probability_mask],
        train.context_tokens,
        train.max_response_tokens,
        getattr(credit, "segment_tokens", "-"),
    ]
    assert list(map(str, found)) == expected


@pytest.mark.parametrize(("experiment", "method"), RUNS)
def test_every_run_has_what_all_official_runs_share(experiment: str, method: str) -> None:
    train = train_settings(STUDY, method, experiment)
    changing = {"probability_mask": None, "micro_batch_episodes": None, "objective": "clipped", "whiten_over": "mask"}
    assert dataclasses.replace(train.loss, **changing) == Loss(
        clip_range=0.2, kl_coefficient=1e-4, kl_over="mask", kl_reduction="sequence_sum", whiten=True,
        scope="micro_batch", beta=0.1, max_mean_ratio=10,
    )  # fmt: skip
    assert train.optimizer == Optimizer(
        lr=1e-6, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0, max_grad_norm=1, schedule="log_warmup_linear",
        warmup_share=0.03, micro_batch_tokens=16384,
    )  # fmt: skip
    # Micro-batches are cut by episodes, never by tokens.
    assert train.loss.micro_batch_episodes * train.context_tokens <= train.optimizer.micro_batch_tokens
    rho_or_deepseek = STUDY.experiments[experiment].model in ("rho", "deepseek_math")
    assert train.sampling == Sampling(temperature=0.6, top_p=0.9 if rho_or_deepseek else 1.0)
    assert (train.validate_every, train.backend, train.dtype) == (
        1 if method in ("restem", "dpo_positive") else 10, "vllm", "bfloat16",
    )  # fmt: skip
    graded = isinstance(train.credit, Group | Tree)
    assert train.unfinished_reward == ("graded" if graded else "zero")


def test_methods_estimate_as_the_official_code_does() -> None:
    training = [method for method, found in STUDY.methods.items() if found.policy is None]
    credit = {method: train_settings(STUDY, method).credit for method in training}
    chain = Chain(partition=Partition(interval=5), rollouts_per_cut=9, first_segment="zero", zero_confident=True)
    assert credit["spo_chain"] == credit["spo_chain.no_mask"] == chain
    assert credit["vineppo.math"] == dataclasses.replace(credit["vineppo"], partition=Partition(name="math_steps"))
    for interval in (2, 100):
        changed = dataclasses.replace(chain, partition=Partition(interval=interval))
        assert credit[f"spo_chain.int{interval}"] == changed
    naive = credit["spo_chain.fixed_count"]
    assert (naive.partition.name, naive.partition.segments, naive.zero_confident) == ("fixed_count", 4, False)
    assert (naive.rollouts_per_cut, naive.first_segment) == (9, "zero")
    assert credit["vineppo"] == Chain(partition=Partition(name="lines"), rollouts_per_cut=9, max_estimated_cuts=25)
    assert credit["grpo"] == Group(baseline="mean", divide_by_std=True)
    assert credit["rloo"] == Group(baseline="leave_one_out", divide_by_std=False)
    assert credit["ppo"] == Critic(gamma=1, lam=1, lr=None, value_clip_range=0.2)
    assert credit["restem"] == Accepted(
        samples_per_problem=8, keep_per_problem=10, temperature=0.6, keep="first_peak", validate_every_steps=500
    )
    assert credit["dpo_positive"] == Pairs(samples_per_problem=64, pairs_per_problem=64, beta=0.3, penalty=50)
    tree = credit["spo_tree"]
    assert (tree.branches, tree.divide_by_std, tree.fill_by_repeating) == ((6, 6, 6), False, True)
    assert tree.replay == Replay(max_age_iterations=8, max_per_problem=32, keep_surplus=False)
    assert (credit["spo_tree.small"].branches, credit["spo_tree.large"].branches) == ((4, 4, 4), (8, 8, 8))
    assert credit["spo_tree.std"].divide_by_std
    assert credit["spo_tree.policy_iteration"].keep_zero_advantage and not tree.keep_zero_advantage
    objective = {key: train_settings(STUDY, key).loss.objective for key in training}
    assert [key for key, name in objective.items() if name != "clipped"] == ["spo_tree.policy_iteration"]
    # 4 rollouts a state in the Qwen2.5-0.5B config, 9 in that of the Qwen2.5-1.5B base (spec §1.8).
    assert train_settings(STUDY, "spo_chain", "qwen_half_gsm8k").credit.rollouts_per_cut == 4
    assert train_settings(STUDY, "spo_chain", "qwen_math_math").credit.rollouts_per_cut == 9


def test_runs_stop_where_the_published_policies_are_from() -> None:
    """spec §5.6: iterations 690, 400 and 680 of schedules of 1,000; ablations of the chain stop with it."""
    stops = {(key, method): train_settings(STUDY, method, key).stop_at for key, method in RUNS}
    chain = {(key, method) for key, method in RUNS if method.startswith("spo_chain") and key in
             ("short_cot", "intervals", "partitions", "mask")}  # fmt: skip
    expected = dict.fromkeys(chain, 690)
    for key in ("long_cot", "long_cot_aime"):
        expected |= {(key, "spo_tree.4k"): 400, (key, "grpo.4k"): 680}
    assert {where: stop for where, stop in stops.items() if stop is not None} == expected


def test_whitening_of_ppo_and_policy_iteration_is_the_official_one() -> None:
    """spec §4.3: over all response tokens, the loss masked; spec §1.5: over tokens below the mask."""
    over = {method: train_settings(STUDY, method).loss.whiten_over for _, method in RUNS}
    assert [method for method, tokens in over.items() if tokens == "response"] == ["ppo"]
    loss = train_settings(STUDY, "spo_tree.policy_iteration").loss
    assert (loss.whiten, loss.probability_mask, loss.scope, loss.micro_batch_episodes) == (True, 0.9, "micro_batch", 8)


def test_the_authors_own_run_differs_where_it_is_known_to() -> None:
    """spec §9: the run of Fig. 3 against the shipped config."""
    shipped, own = (train_settings(STUDY, method) for method in ("spo_chain", "spo_chain.authors"))
    loss = dataclasses.replace(shipped.loss, kl_clip=10, micro_batch_episodes=16)
    optimizer = dataclasses.replace(shipped.optimizer, micro_batch_tokens=32768)
    assert own == dataclasses.replace(
        shipped, unfinished_reward="minus_one", context_tokens=2048, loss=loss, optimizer=optimizer
    )
    assert own.loss.micro_batch_episodes * own.context_tokens <= own.optimizer.micro_batch_tokens


def test_prompts_stops_and_validation_are_the_official_ones() -> None:
    """spec §1.8 (length filters), §2.1 items 2 and 8, §3.1, §7.2."""
    found = {key: train_settings(STUDY, experiment.methods[-1], key) for key, experiment in STUDY.experiments.items()
             if trained(STUDY, experiment)}  # fmt: skip
    longest = {key: train.max_prompt_tokens for key, train in found.items()}
    assert {longest[key] for key in ("short_cot", "mask", "tree_std", "large")} == {1512}
    assert (longest["long_cot"], longest["qwen_half_gsm8k"], longest["qwen_math_math"]) == (200, 200, 512)
    sampled = Sampling(temperature=0.35, top_p=1.0)
    for key, train in found.items():
        rho_or_deepseek = STUDY.experiments[key].model in ("rho", "deepseek_math")
        assert train.stop_texts == (("\n\n\nProblem:",) if rho_or_deepseek else ())
        assert train.validation_samples == (16 if rho_or_deepseek else 0)
    assert found["short_cot"].validation_sampling == sampled
    assert found["large"].validation_sampling == Sampling(temperature=0.35, top_p=0.9)
    graded = {key: train_settings(STUDY, "spo_tree", key).credit.grade_truncated for key in ("short_cot", "long_cot")}
    assert graded == {"short_cot": "own", "long_cot": "own"}
    rollouts = {key: train_settings(STUDY, "spo_chain", key).credit.grade_rollouts
                for key in ("short_cot", "large", "qwen_half_gsm8k", "qwen_gsm8k", "qwen_math_math")}  # fmt: skip
    assert rollouts == {"short_cot": "response", "large": "response", "qwen_half_gsm8k": "own", "qwen_gsm8k": "own",
                        "qwen_math_math": "own"}  # fmt: skip


def test_prompts_are_the_published_ones() -> None:
    prompts = {name: dataset.prompt for name, dataset in STUDY.datasets.items()}
    assert {name: prompts[name] for name in PROMPTS} == PROMPTS
    assert prompts.keys() - PROMPTS.keys() == {"knights"}


def test_deepscaler_and_still3_are_asked_in_their_own_chat_templates() -> None:
    """spec §7.3: the same words, in the model's template; for all others the template's text is the prompt."""
    assert {name for name, model in STUDY.models.items() if model.chat} == {"deepscaler", "still3"}
    for dataset in ("math500", "aime24"):
        for model in ("deepscaler", "still3"):
            found = config.asked(STUDY, dataset, model)
            assert (found.chat, found.message) == (True, MESSAGE)
        found = config.asked(STUDY, dataset, "r1_distill")
        assert (found.chat, found.prompt, found.message) == (False, R1, "{question}")


def test_known_revisions_are_pinned_in_full() -> None:
    """spec §6.3."""
    models = {model.path: model.revision for model in STUDY.models.values() if model.revision}
    assert models == {
        "realtreetune/rho-1b-sft-GSM8K": "b28fda3216f8178c1f37c3c764196e3ca2439a30",
        "gyr66/spo-chain-int5-rho1.1B-gsm8k": "a806ef8ef83beca009725da026fb7bde467a9dde",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": "ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562",
    }
    datasets = {name: dataset.revision for name, dataset in STUDY.datasets.items() if dataset.revision}
    assert datasets == dict.fromkeys(("gsm8k", "gsm8k_qwen"), "e53f048856ff4f594e959d75785d2c2d37b678ee")


def test_the_4k_runs_go_on_from_the_2k_ones() -> None:
    runs = config.runs(STUDY)
    for method in ("grpo", "spo_tree"):
        long, short = runs[f"r1_distill-math-{method}.4k-s42"], runs[f"r1_distill-math-{method}-s42"]
        assert long.start == short.name and short.start is None
        assert dataclasses.replace(long.train, context_tokens=2048, stop_at=None, stage=0) == short.train
    assert (short.train.stage, long.train.stage) == (0, 1)
    assert {run.train.seed for run in runs.values()} == {42}


def test_the_released_policies_stand_beside_the_papers_numbers() -> None:
    """spec §6.3, §1.4: Table 1 was made with the released policies."""
    paths = {name: STUDY.models[found.policy].path for name, found in STUDY.methods.items() if found.policy}
    assert paths == {
        "spo_chain.released": "gyr66/spo-chain-int5-rho1.1B-gsm8k",
        "spo_tree.released": "gyr66/spo-tree-666-rho1.1B-gsm8k",
        "spo_tree.math_released": "gyr66/spo-tree-666-qwen1.5B-math",
        "grpo.math_released": "gyr66/grpo-qwen1.5B-math",
        "deepscaler": "agentica-org/DeepScaleR-1.5B-Preview",
        "still3": "RUC-AIBOX/STILL-3-1.5B-preview",
    }
    released = STUDY.experiments["released_math"]
    assert STUDY.experiments["released_aime"].methods == released.methods
    assert set(released.methods) | set(STUDY.experiments["released_gsm8k"].methods) == set(paths)
    asked = {key for key in config.evaluations(STUDY) if key[0] == "grpo_math_released"}
    assert asked == {
        *(
            ("grpo_math_released", dataset, name)
            for dataset in ("math500", "aime24")
            for name in ("table1_official", "greedy")
        ),
        ("grpo_math_released", "aime24", "aime_16"),
    }
    table = config.pictures(STUDY)["released_math500"]
    theirs = {(number.method, number.context): number.value for number in table.paper}
    assert theirs["spo_tree.math_released", 2048] == 73.6 and theirs["grpo.math_released", 2048] == 62.0
    assert theirs["still3", 2048] == 66.2 and theirs["base", 32768] == 83.8
    assert [arm.runs[0].run for arm in table.study.arms][:2] == ["grpo_math_released", "spo_tree_math_released"]


def test_protocols_are_those_of_the_published_numbers() -> None:
    found = {
        name: (protocol.sampling.temperature, protocol.sampling.top_p, protocol.samples_per_problem)
        for name, protocol in STUDY.protocols.items()
    }
    assert found == {
        "gsm8k_official": (0.35, 1.0, 16),
        "math_official": (0.35, 0.9, 16),
        "greedy": (0.0, 1.0, 1),
        "table1_official": (0.6, 0.95, 1),
        "aime_16": (0.6, 0.95, 16),
    }
    limits = {name: (protocol.max_response_tokens, protocol.stop_texts) for name, protocol in STUDY.protocols.items()}
    stop = ("\n\n\nProblem:",)
    assert limits == {
        "gsm8k_official": (1024, stop),
        "math_official": (1024, ()),
        "greedy": (None, stop),
        "table1_official": (None, ()),
        "aime_16": (None, ()),
    }
    assert {(protocol.backend, protocol.dtype) for protocol in STUDY.protocols.values()} == {("vllm", "bfloat16")}
    used = {key: (experiment.contexts, experiment.protocols) for key, experiment in STUDY.experiments.items()}
    assert used["short_cot"] == used["released_gsm8k"] == ((2047,), ("gsm8k_official", "greedy"))
    assert used["long_cot"] == used["released_math"] == ((2048, 4096, 32768), ("table1_official", "greedy"))
    assert used["long_cot_aime"] == used["released_aime"] == ((2048, 4096, 32768), ("aime_16",))
    assert used["large"] == ((4095,), ("math_official", "greedy"))


def test_every_policy_is_evaluated_greedily() -> None:
    """Greedy Pass@1 at 2K, 4K and 32K for the long study, released policies included, and for all others too."""
    found = config.evaluations(STUDY)
    assert {policy for policy, _, protocol in found if protocol == "greedy"} == {policy for policy, _, _ in found}
    long = {key: each.contexts for key, each in found.items() if key[1] in ("math500", "aime24") and key[2] == "greedy"}
    assert set(long.values()) == {(2048, 4096, 32768)}
    policies = {"r1_distill", "grpo_math_released", "spo_tree_math_released", "deepscaler", "still3"}
    policies |= {f"r1_distill-math-{name}-s42" for name in ("grpo", "grpo.mask", "spo_tree", "grpo.4k", "spo_tree.4k")}
    assert set(long) == {(policy, dataset, "greedy") for policy in policies for dataset in ("math500", "aime24")}


def test_tables_show_greedy_accuracy_of_every_policy() -> None:
    pictures = config.pictures(STUDY)
    tables = [pictures[name] for name in STUDY.tables]
    shown = {
        (run.run, table.study.dataset, context)
        for table in tables
        if table.make == "context_table" and table.study.protocol == "greedy"
        for arm in (table.study.base, *table.study.arms)
        for run in arm.runs
        for context in table.study.contexts
    }
    long = [(key, each) for key, each in config.evaluations(STUDY).items() if key[1] in ("math500", "aime24")]
    assert shown == {(*key[:2], c) for key, each in long if key[2] == "greedy" for c in each.contexts}
    by_problem = {table.study.protocol for table in tables if table.study and table.study.dataset == "aime24"}
    assert by_problem == {"table1_official", "greedy", "aime_16"}


def test_every_figure_and_table_of_the_paper_has_its_target() -> None:
    assert set(STUDY.figures) == {
        "fig3a", "fig3b", "fig3c", "fig4a", "fig4b", "fig4c", "fig5a", "fig5b", "fig5c", "fig6", "fig8", "fig9",
        "fig10", "fig11a", "fig11b", "fig11c", "fig11d", "fig12",
    }  # fmt: skip
    pictures = (*STUDY.figures.values(), *STUDY.tables.values())
    shown = {picture.paper for picture in pictures if picture.paper is not None}
    assert shown == set(layers.read(CONFIG / "paper_numbers.yaml").tree)


def test_fig9_shows_the_bars_that_the_paper_quotes() -> None:
    """spec §1.5: of VinePPO's plot for MATH and DeepSeekMath-7B; base and SPO-chain have bars of their own."""
    figure = config.pictures(STUDY)["fig9"]
    shown = {quoted.number.method: quoted.number.value for quoted in figure.quoted}
    assert shown == {"restem": 34.9, "dpo_positive": 37.6, "ppo": 42.8, "vineppo": 46.0}
    assert [quoted.label for quoted in figure.quoted] == ["RestEM", "DPO-positive", "PPO", "VinePPO"]
    assert all("VinePPO paper" in quoted.number.note for quoted in figure.quoted)
    assert {number.method: number.value for number in figure.paper}["base"] == 32.8


def test_curves_are_of_the_accuracy_that_the_paper_draws() -> None:
    """spec §7.2: the mean of 16 samples at temperature 0.35 for Rho, greedy for R1-Distill."""
    pictures = config.pictures(STUDY)
    shown = {name: pictures[name] for name in STUDY.figures}
    sampled = {name for name, figure in shown.items() if figure.metric == "validation_sampled_accuracy"}
    assert sampled == {"fig3c", "fig4a", "fig5b", "fig5c", "fig6", "fig8"}
    assert {shown[name].sampled for name in sampled} == {"16 samples per problem at temperature 0.35"}
    assert shown["fig5a"].metric == "validation_accuracy"
    parts = [part for claim in pictures["claims"].claims for part in claim.parts]
    metrics = {(part.study.name, part.metric) for part in parts if part.statistic in OF_VALIDATION}
    assert metrics == {
        ("long_cot", "validation_accuracy"),
        *((name, "validation_sampled_accuracy") for name in ("short_cot", "intervals", "tree_shapes")),
    }


def test_a_check_and_a_dry_run_need_no_hub(tmp_path: Path) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    overlay = str(CONFIG / "paper.yaml")
    check = ["spo", "check", str(CONFIG / "config.yaml"), overlay]
    dry = [
        "snakemake",
        "-n",
        "-q",
        "rules",
        "-s",
        str(ROOT / "Snakefile"),
        "-d",
        str(tmp_path),
        "--configfile",
        overlay,
    ]
    for command in (check, dry):
        done = subprocess.run(
            [sys.executable, "-m", *command], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert "study paper: 35 training runs" in done.stdout or "Job stats" in done.stdout + done.stderr
