"""Whole studies: names that must exist, numbers that must fit, and what follows for runs, evaluations and pictures."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from spo import config
from spo.analysis.slices import Table
from spo.config import layers
from spo.errors import UserError
from spo.settings import Chain
from tests import tiny

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "config"
NUMBERS = CONFIG / "paper_numbers.yaml"
SHIPPED = [[], ["smoke.yaml"], ["gsm8k_tiny.yaml"], ["tuning.yaml"], ["paper.yaml"]]
SHIPPED += [["paper.yaml", "paper_tiny.yaml"], ["paper.yaml", "paper_tiny.yaml", "paper_tiny_vllm.yaml"]]

SMALL = {
    "datasets": {"tales": {"source": "stories", "grader": "final_line", "train": 50, "test": 20, "demonstrations": 9}},
    "models": {"tiny": {"sft": {"dataset": "tales"}}},
    "protocols": {"greedy": {}},
    "training": {"iterations": 5, "problems_per_iteration": 4, "optimizer": {"lr": 1e-4}},
    "methods": {
        "grpo": {"label": "GRPO", "train": {"credit": {"kind": "group"}}},
        "chain": {"label": "Chain", "train": {"credit": {"kind": "chain"}, "optimizer": {"lr": 2e-4}}},
        "chain.int2": {"label": "Chain 2", "base": "chain", "train": {"credit": {"partition": {"interval": 2}}}},
    },
    "experiments": {
        "one": {
            "model": "tiny",
            "dataset": "tales",
            "methods": ["grpo", "chain", "chain.int2"],
            "seeds": [1, 2],
            "contexts": [64, 256],
            "protocols": ["greedy"],
            "train": {"batch_episodes": 8},
            "overrides": {"chain": {"batch_episodes": 16}},
        }
    },
    "figures": {"bars": {"draw": "accuracy_bars", "title": "Bars", "experiment": "one", "paper": "fig3a"}},
    "tables": {"contexts": {"make": "context_table", "title": "Contexts", "experiment": "one"}},
    "style": {"colours": {"chain": "#0072B2"}},
}


def study(folder: Path, changes: dict | None = None) -> config.Study:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(SMALL), sort_keys=False), encoding="utf-8")
    return config.load([path], {"paper_numbers": layers.read(NUMBERS).tree} | (changes or {}))


@pytest.mark.parametrize("overlays", SHIPPED, ids=lambda names: "+".join(names) or "config.yaml")
def test_every_shipped_study_is_complete(overlays: list[str]) -> None:
    found = config.load([CONFIG / "config.yaml", *(CONFIG / name for name in overlays)])
    pictures = config.pictures(found)
    assert set(pictures) == {*found.figures, *found.tables}
    assert len(config.runs(found)) >= 6
    for picture in (*found.figures.values(), *found.tables.values()):
        # The table of settings is made of the config alone.
        assert bool(config.reads(found, picture)) == (getattr(picture, "make", "") != "settings_table")


def test_every_config_file_is_tested() -> None:
    known = {"config.yaml", "paper_numbers.yaml", *(name for names in SHIPPED for name in names)}
    assert {path.name for path in CONFIG.glob("*.yaml")} == known


def test_the_search_uses_no_seed_of_the_study() -> None:
    study, search = (config.load([CONFIG / "config.yaml", *overlay]) for overlay in ([], [CONFIG / "tuning.yaml"]))
    added = search.experiments.keys() - study.experiments.keys()
    used = {seed for experiment in study.experiments.values() for seed in experiment.seeds}
    assert added and not used & {seed for name in added for seed in search.experiments[name].seeds}
    for name in added:
        tries = [search.methods[method].base for method in search.experiments[name].methods]
        assert len({tries.count(base) for base in tries}) == 1  # the same number for every method


def test_studies_do_not_share_folders() -> None:
    """Except the search for settings, which shares base models and data with the study."""
    own = [names for names in SHIPPED if names != ["tuning.yaml"]]
    found = [config.load([CONFIG / "config.yaml", *(CONFIG / name for name in names)]) for names in own]
    assert len({each.results for each in found}) == len({each.pictures for each in found}) == len(found)


def test_a_run_has_the_settings_of_its_layers(tmp_path: Path) -> None:
    runs = config.runs(study(tmp_path))
    assert list(runs) == [f"tiny-tales-{m}-s{s}" for m in ("grpo", "chain", "chain.int2") for s in (1, 2)]
    grpo, chain, variant = (runs[f"tiny-tales-{m}-s2"].train for m in ("grpo", "chain", "chain.int2"))
    assert (grpo.optimizer.lr, chain.optimizer.lr, variant.optimizer.lr) == (1e-4, 2e-4, 2e-4)
    assert (grpo.batch_episodes, chain.batch_episodes, variant.batch_episodes) == (8, 16, 8)
    assert isinstance(variant.credit, Chain) and variant.credit.partition.interval == 2
    assert {grpo.seed, chain.seed, variant.seed} == {2} and grpo.iterations == 5


def test_every_policy_is_evaluated_once_at_all_contexts(tmp_path: Path) -> None:
    two = {
        "experiments": {"two": copy.deepcopy(SMALL["experiments"]["one"]) | {"contexts": [128, 256], "seeds": [2, 3]}}
    }
    evaluations = config.evaluations(study(tmp_path, two))
    policies = ["tiny", *(f"tiny-tales-{m}-s{s}" for m in ("grpo", "chain", "chain.int2") for s in (1, 2, 3))]
    assert sorted(evaluations) == sorted((policy, "tales", "greedy") for policy in policies)
    contexts = {policy: evaluations[policy, "tales", "greedy"].contexts for policy in policies}
    assert contexts["tiny"] == contexts["tiny-tales-grpo-s2"] == (64, 128, 256)
    assert contexts["tiny-tales-grpo-s1"] == (64, 256) and contexts["tiny-tales-grpo-s3"] == (128, 256)


def test_a_picture_knows_its_runs_its_numbers_and_its_files(tmp_path: Path) -> None:
    found = study(tmp_path)
    pictures = config.pictures(found)
    bars = pictures["bars"]
    assert [arm.method for arm in bars.study.arms] == ["grpo", "chain", "chain.int2"]
    assert [run.run for run in bars.study.arms[0].runs] == ["tiny-tales-grpo-s1", "tiny-tales-grpo-s2"]
    assert bars.study.base.runs[0].run == "tiny"
    assert {number.method: number.value for number in bars.paper}["spo_chain"] == 56.7
    # A variant takes a shade of its base method's colour: 40 % of white mixed into 00, 72 and B2.
    assert [(arm.colour, arm.line) for arm in bars.study.arms[1:]] == [("#0072B2", "solid"), ("#66AAD1", "dashed")]
    files = config.reads(found, found.figures["bars"])
    assert "evals/tiny/tales/greedy/score.json" in files
    assert all(path.startswith("evals/") for path in files)
    assert isinstance(pictures["contexts"], Table)
    assert config.report_slice(found).figures == ("bars",)


def test_a_colour_is_in_no_training_run(tmp_path: Path) -> None:
    before, after = study(tmp_path), study(tmp_path, {"style": {"colours": {"chain": "#000000"}, "dpi": 300}})
    assert config.runs(before) == config.runs(after)
    assert config.pictures(before) != config.pictures(after)
    assert config.report_slice(before).config_digest != config.report_slice(after).config_digest


def test_longer_runs_start_first(tmp_path: Path) -> None:
    # Rollouts make iterations long; many iterations make runs longer.
    for iterations, longest in ((5, "chain.int2"), (500, "grpo")):
        overrides = {"experiments": {"one": {"overrides": {"grpo": {"iterations": iterations}}}}}
        order = config.shortest_first(study(tmp_path, overrides))
        assert set(order[-2:]) == {f"tiny-tales-{longest}-s1", f"tiny-tales-{longest}-s2"}


#: Two stages more after GRPO, the second named before the first.
STAGES = {
    "methods": {
        "grpo.third": {"label": "GRPO 3", "base": "grpo", "start": "grpo.second"},
        "grpo.second": {"label": "GRPO 2", "base": "grpo", "start": "grpo", "train": {"context_tokens": 256}},
    },
    "experiments": {
        "stages": {
            "model": "tiny",
            "dataset": "tales",
            "methods": ["grpo.third", "grpo", "grpo.second"],
            "seeds": [1, 2],
            "contexts": [256],
            "protocols": ["greedy"],
            "train": {"batch_episodes": 8},
        }
    },
}


def staged(folder: Path, changes: dict | None = None) -> config.Study:
    return study(folder, layers.merge(STAGES, changes or {}))


def test_a_later_stage_starts_from_the_run_of_the_same_seed(tmp_path: Path) -> None:
    runs = config.runs(staged(tmp_path))
    assert runs["tiny-tales-grpo.second-s2"].start == "tiny-tales-grpo-s2"
    assert runs["tiny-tales-grpo.third-s1"].start == "tiny-tales-grpo.second-s1"
    assert runs["tiny-tales-grpo-s1"].start is None
    stages = [runs[f"tiny-tales-{method}-s1"].train.stage for method in ("grpo", "grpo.second", "grpo.third")]
    assert stages == [0, 1, 2]
    # Whoever is waited for begins first: GRPO counts for all three stages.
    order = [name for name in config.shortest_first(staged(tmp_path)) if "grpo" in name and name.endswith("s1")]
    assert order == [f"tiny-tales-{method}-s1" for method in ("grpo.third", "grpo.second", "grpo")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"methods": {"grpo": {"start": "grpo.third"}}},
            "methods.grpo.second.start: grpo -> grpo.third -> grpo.second -> grpo is a circle",
        ),
        ({"methods": {"grpo": {"start": "grpo"}}}, "methods.grpo.start: grpo -> grpo is a circle"),
        ({"methods": {"grpo": {"start": "gpro"}}}, "methods.grpo.start: unknown method gpro (did you mean grpo?)"),
        (
            {"experiments": {"stages": {"methods": ["grpo", "grpo.third"]}}},
            "experiments.stages.methods: grpo.third starts from grpo.second, which is not among them. Add it",
        ),
    ],
)
def test_stages_that_cannot_follow_each_other_are_one_line(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as error:
        staged(tmp_path, changes)
    assert any(expected in line for line in str(error.value).splitlines())


OTHERS = {
    "models": {"elder": {"path": "some/where"}},
    "methods": {"elder": {"label": "Elder", "policy": "elder", "paper": "spo_chain"}},
    "experiments": {"one": {"methods": ["grpo", "elder", "chain"]}},
    "figures": {"curves": {"draw": "learning_curves", "title": "Curves", "experiment": "one"}},
}


def test_a_policy_of_others_is_evaluated_and_never_trained(tmp_path: Path) -> None:
    found = study(tmp_path, OTHERS)
    assert {run.method for run in config.runs(found).values()} == {"grpo", "chain"}
    policies = {key[0] for key in config.evaluations(found)}
    assert policies == {"tiny", "elder", *config.runs(found)}
    pictures = config.pictures(found)
    bars, curves = (pictures[name] for name in ("bars", "curves"))
    elder = bars.study.arms[1]
    assert (elder.method, [(run.run, run.seed) for run in elder.runs], elder.trained) == (
        "elder",
        [("elder", 0)],
        False,
    )
    assert {number.method: number.value for number in bars.paper}["elder"] == 56.7
    assert [arm.method for arm in curves.study.arms] == ["grpo", "chain"]  # it has no curve
    assert "evals/elder/tales/greedy/graded.jsonl" in config.reads(found, found.figures["bars"])
    assert not any("runs/elder" in path for path in config.experiment_files(found, "one"))
    assert "elder: elder, evaluated as it is" in config.summary(found)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"methods": {"elder": {"policy": "eldr"}}}, "methods.elder.policy: unknown model eldr (did you mean elder?)"),
        ({"methods": {"elder": {"train": {"epochs": 2}}}}, "methods.elder.train: `policy` is evaluated as it is"),
        ({"methods": {"elder": {"base": "grpo"}}}, "methods.elder.base: `policy` is evaluated as it is"),
        ({"methods": {"chain": {"start": "elder"}}}, "methods.chain.start: elder is a `policy` that others trained"),
        ({"methods": {"chain.int2": {"base": "elder"}}}, "methods.chain.int2.base: elder is a `policy`"),
        ({"experiments": {"one": {"overrides": {"elder": {"epochs": 2}}}}}, "one.overrides.elder: it is a `policy`"),
        ({"figures": {"curves": {"methods": ["elder"]}}}, "figures.curves.methods.0: elder is a policy"),
        (
            {"experiments": {"one": {"methods": ["elder"], "overrides": {"chain": {}}}}},
            "experiments.one.overrides.chain: unknown method of this experiment",
        ),
        (
            {"traces": {"t": {"experiment": "one", "method": "elder"}}},
            "traces.t.method: elder is a policy that others trained",
        ),
        (
            {"audits": {"a": {"experiment": "one", "method": "elder", "audit": {"estimators": {}}}}},
            "audits.a.method: elder is a policy that others trained",
        ),
        (
            {
                "claims": {
                    "c": {
                        "text": "x",
                        "source": "Fig. 0",
                        "parts": [
                            {"statistic": "late_accuracy", "experiment": "one", "first": "elder", "second": "grpo",
                             "rule": "above", "relevant": 1}
                        ],
                    }
                }
            },
            "claims.c.parts.0.first: elder is a policy that others trained",
        ),
    ],
)  # fmt: skip
def test_what_a_policy_of_others_cannot_do_is_one_line(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as error:
        study(tmp_path, layers.merge(OTHERS, changes))
    assert any(expected in line for line in str(error.value).splitlines())


def test_an_experiment_may_train_nothing(tmp_path: Path) -> None:
    alone = {name: part for name, part in SMALL["experiments"]["one"].items() if name != "overrides"}
    changes = layers.merge(OTHERS, {"experiments": {"alone": alone | {"methods": ["elder"]}}})
    found = study(tmp_path, changes)
    assert len(config.runs(found)) == 4  # those of the other experiment
    assert "evals/elder/tales/greedy/score.json" in config.experiment_files(found, "alone")
    with pytest.raises(UserError, match="figures.curves.experiment: alone trains nothing"):
        study(tmp_path, layers.merge(changes, {"figures": {"curves": {"experiment": "alone"}}}))
    with pytest.raises(UserError, match="traces.t.experiment: alone trains nothing"):
        study(tmp_path, layers.merge(changes, {"traces": {"t": {"experiment": "alone"}}}))


def test_the_summary_counts(tmp_path: Path) -> None:
    assert "6 training runs, 7 evaluations" in config.summary(study(tmp_path))


ONE = "experiments.one"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"datasets": {"tales": {"source": "storys"}}},
            "datasets.tales.source: unknown dataset source storys (did you mean stories?)",
        ),
        (
            {"datasets": {"tales": {"grader": "final_lin"}}},
            "datasets.tales.grader: unknown grader final_lin (did you mean final_line?)",
        ),
        ({"datasets": {"tales": {"options": {"stepps": [2, 3]}}}}, "datasets.tales.options.stepps: unknown option"),
        ({"datasets": {"tales": {"options": {"steps": [3, 2]}}}}, "datasets.tales.options.steps"),
        ({"datasets": {"tales": {"prompt": "Q:"}}}, "datasets.tales.prompt: should contain {question}"),
        (
            {"models": {"tiny": {"sft": {"dataset": "tale"}}}},
            "models.tiny.sft.dataset: unknown dataset tale (did you mean tales?)",
        ),
        ({"models": {"tiny": {"path": "x"}}}, "models.tiny: give either `sft`"),
        ({"models": {"other": {}}}, "models.other: give either `sft`"),
        (
            {"datasets": {"tales": {"demonstrations": 0}}},
            "datasets.tales.demonstrations: 0, but models.tiny.sft learns from them",
        ),
        (
            {"models": {"tiny": {"tokenizer": {"special_tokens": ["<s>"]}}}},
            "models.tiny.tokenizer.special_tokens: only for kind bpe, not words",
        ),
        ({"protocols": {"greedy": {"dtype": "float16"}}}, "protocols.greedy.dtype: unknown value float16 (did"),
        (
            {"protocols": {"greedy": {"backend": "engin"}}},
            "protocols.greedy.backend: unknown backend engin (did you mean engine?)",
        ),
        (
            {"training": {"backend": "engines"}},
            "training.backend: unknown backend engines (did you mean engine?)",
        ),
        ({"training": {"iterationss": 1}}, "training.iterationss: unknown key (did you mean iterations?)"),
        ({"training": {"seed": 1}}, "training.seed: seeds come from experiments.*.seeds"),
        ({"training": {"stage": 1}}, "training.stage: stages come from methods.*.start"),
        ({"training": {"stop_at": 6}}, "training.stop_at: 6, but the schedule ends after iterations: 5"),
        ({"methods": {"grpo": {"base": "grop"}}}, "methods.grpo.base: unknown method grop (did you mean grpo?)"),
        ({"methods": {"chain": {"base": "chain.int2"}}}, "is a circle"),
        (
            {"methods": {"grpo": {"train": {"credit": {"intervall": 2}}}}},
            "methods.grpo.train.credit.intervall: unknown key",
        ),
        (
            {"methods": {"chain": {"train": {"credit": {"partition": {"name": "cutpoint_intervall"}}}}}},
            "methods.chain.train.credit.partition.name: unknown partition cutpoint_intervall (did you mean",
        ),
        ({"experiments": {"one": {"model": "tinny"}}}, f"{ONE}.model: unknown model tinny (did you mean tiny?)"),
        ({"experiments": {"one": {"dataset": "tails"}}}, f"{ONE}.dataset: unknown dataset tails (did you mean tales?)"),
        (
            {
                "datasets": {"exam": {"source": "aime24", "grader": "aime"}},
                "experiments": {"one": {"dataset": "exam", "evaluate_on": ["tales"]}},
            },
            f"{ONE}.dataset: exam (aime24) has a test split only. Name it in evaluate_on",
        ),
        ({"experiments": {"one": {"evaluate_on": ["talez"]}}}, f"{ONE}.evaluate_on.0: unknown dataset talez"),
        ({"experiments": {"one": {"methods": ["gpro"]}}}, f"{ONE}.methods.0: unknown method gpro (did you mean grpo?)"),
        ({"experiments": {"one": {"methods": ["grpo", "chain", "grpo"]}}}, f"{ONE}.methods: names something twice"),
        ({"experiments": {"one": {"seeds": [1, 1]}}}, f"{ONE}.seeds: names something twice"),
        ({"experiments": {"one": {"seeds": []}}}, f"{ONE}.seeds: should have at least 1 item"),
        ({"experiments": {"one": {"seeds": [-1]}}}, f"{ONE}.seeds.0: should be at least 0, not -1"),
        ({"experiments": {"one": {"contexts": [256, 64]}}}, f"{ONE}.contexts: should ascend"),
        (
            {"experiments": {"one": {"contexts": [64, 9999]}}},
            f"{ONE}.contexts: 9999, but models.tiny.architecture.max_position_tokens is 2048",
        ),
        (
            {"experiments": {"one": {"paper_contexts": [1]}}},
            f"{ONE}.paper_contexts: should have as many entries as contexts, 2",
        ),
        (
            {"experiments": {"one": {"protocols": ["gredy"]}}},
            f"{ONE}.protocols.0: unknown protocol gredy (did you mean greedy?)",
        ),
        (
            {"experiments": {"one": {"overrides": {"chian": {}}}}},
            f"{ONE}.overrides.chian: unknown method of this experiment chian",
        ),
        ({"experiments": {"one": {"overrides": {"chain": {"lr": 1}}}}}, f"{ONE}.overrides.chain.lr: unknown key"),
        ({"experiments": {"one": {"train": {"optimizer": {"lrr": 1}}}}}, f"{ONE}.train.optimizer.lrr: unknown key"),
        (
            {"experiments": {"one": {"train": {"validation_problems": 301}}}},
            f"{ONE}.train.validation_problems: 301, but",
        ),
        (
            {"experiments": {"one": {"train": {"problems_per_iteration": 51}}}},
            f"{ONE}.train.problems_per_iteration: 51, but",
        ),
        ({"experiments": {"one": {"train": {"context_tokens": 4096}}}}, f"{ONE}.train.context_tokens: 4096, but"),
        (
            {"experiments": {"one": {"pairs": [["grpo", "chan"]]}}},
            f"{ONE}.pairs.0: unknown method of this experiment chan (did you mean chain?)",
        ),
        (
            {"experiments": {"two": SMALL["experiments"]["one"] | {"train": {"epochs": 2}}}},
            "experiments.two.train: run tiny-tales-grpo-s1 is also in experiments.one, with another",
        ),
        (
            {"figures": {"bars": {"draw": "accuracy_bar"}}},
            "figures.bars.draw: unknown kind of figure accuracy_bar (did you mean",
        ),
        (
            {"figures": {"bars": {"experiment": "on"}}},
            "figures.bars.experiment: unknown experiment on (did you mean one?)",
        ),
        ({"figures": {"bars": {"context": 65}}}, "figures.bars.context: unknown context of that experiment 65"),
        ({"figures": {"bars": {"protocol": "x"}}}, "figures.bars.protocol: unknown protocol of that experiment x"),
        ({"figures": {"bars": {"dataset": "x"}}}, "figures.bars.dataset: unknown test set of that experiment x"),
        ({"figures": {"bars": {"methods": ["x"]}}}, "figures.bars.methods.0: unknown method of that experiment x"),
        (
            {"figures": {"bars": {"paper": "fig3"}}},
            "figures.bars.paper: unknown entry of config/paper_numbers.yaml fig3",
        ),
        ({"tables": {"contexts": {"make": "x"}}}, "tables.contexts.make: unknown kind of table x"),
        ({"tables": {"bars": SMALL["tables"]["contexts"]}}, "tables.bars: a figure has this name too"),
        ({"figures": {"train": SMALL["figures"]["bars"]}}, "figures.train: train is the name of a rule"),
        ({"style": {"colours": {"grop": "#000000"}}}, "style.colours.grop: unknown method grop (did you mean grpo?)"),
    ],
)
def test_what_does_not_fit_together_is_one_line(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as error:
        config.pictures(study(tmp_path, changes))
    assert any(expected in line for line in str(error.value).splitlines())


@pytest.mark.parametrize("key", ["datasets", "models", "protocols", "methods"])
def test_a_missing_section_is_named_where_it_is_missed(tmp_path: Path, key: str) -> None:
    left = {name: part for name, part in SMALL.items() if name != key}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(left), encoding="utf-8")
    with pytest.raises(UserError, match=": unknown .* \\(there are none\\)"):
        config.load([path])


def test_the_papers_numbers_are_well_formed(tmp_path: Path) -> None:
    for name, group in layers.read(NUMBERS).tree.items():
        assert group["where"], name
        figure = config.pictures(study(tmp_path, {"figures": {"bars": {"paper": name}}}))["bars"]
        assert len(figure.paper) == len(group["numbers"])


# ---- chat templates -------------------------------------------------------------------------------------------------


def test_asked_takes_the_chat_of_the_dataset_or_of_the_model(tmp_path: Path) -> None:
    changes = {
        "datasets": {"tales": {"message": "Say: {question}"}},
        "models": {"other": {"path": "a/b", "chat": True}},
    }
    found = study(tmp_path, changes)
    plain, chat = (config.asked(found, "tales", model) for model in ("tiny", "other"))
    assert (plain.chat, plain.prompt, plain.message) == (False, "{question}\n", "{question}")
    assert (chat.chat, chat.prompt, chat.message) == (True, "{question}\n", "Say: {question}")


def test_what_is_not_asked_changes_nothing(tmp_path: Path) -> None:
    plain = config.asked(study(tmp_path), "tales", "tiny")
    assert (
        config.asked(study(tmp_path, {"datasets": {"tales": {"message": "Say: {question}"}}}), "tales", "tiny") == plain
    )


def local_model(folder: Path, template: str | None) -> dict:
    tiny.model(folder)
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    contexts = {"contexts": [64], "train": {"context_tokens": 64}}
    return {
        "models": {"mine": {"path": str(folder), "chat": True}},
        "experiments": {"one": {"model": "mine"} | contexts},
    }


def test_a_local_model_with_a_chat_template_may_be_asked_in_it(tmp_path: Path) -> None:
    assert study(tmp_path, local_model(tmp_path / "model", "{{ messages }}")).models["mine"].chat


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"experiments\.one\.\S+: tales is asked in a chat template, but models\.mine\.path"
    ):
        study(tmp_path, local_model(tmp_path / "model", None))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"models": {"tiny": {"chat": True}}}, "models.tiny.chat: a model trained here has no chat template"),
        (
            {"datasets": {"tales": {"chat": True}}},
            "datasets.tales.chat, but models.tiny is trained here and has no chat",
        ),
        ({"datasets": {"tales": {"message": "Q"}}}, "datasets.tales.message: should contain {question}"),
    ],
)
def test_chat_that_cannot_be_is_refused(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as refused:
        study(tmp_path, changes)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("beta1", 1.0), ("beta2", 1.0), ("beta2", -0.1)],
)
def test_load_refuses_decays_that_no_optimizer_takes(tmp_path: Path, key: str, value: float) -> None:
    """torch.optim.AdamW: Invalid beta parameter; 1 would forget nothing and learn nothing."""
    with pytest.raises(UserError, match=f"training.optimizer.{key}"):
        study(tmp_path, {"training": {"optimizer": {key: value}}})


@pytest.mark.parametrize("temperature", [0, 1e-30])
def test_load_refuses_training_without_temperature(tmp_path: Path, temperature: float) -> None:
    """Greedy evaluation is fine; training divides logits by it."""
    sampling = {"sampling": {"temperature": temperature}}
    with pytest.raises(UserError, match="training.sampling.temperature: 0|training.sampling.temperature: 1e-30"):
        study(tmp_path, {"training": sampling})
    with pytest.raises(UserError, match="sampling.temperature"):
        study(tmp_path, {"methods": {"chain.int2": {"train": sampling}}})
    study(tmp_path, {"protocols": {"greedy": {"sampling": {"temperature": 0}}}})


def test_load_refuses_seeds_that_no_generator_takes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="models.tiny.sft.seed"):
        study(tmp_path, {"models": {"tiny": {"sft": {"dataset": "tales", "seed": 2**70}}}})
