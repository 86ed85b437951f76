"""SPO-chain inside TRL: a GRPOTrainer whose completions earn an advantage per segment.

    python examples/trl_spo_chain.py path/to/model path/to/problems.jsonl

TRL samples, grades and updates; this package cuts completions at cutpoints, turns Monte-Carlo values into segment
advantages (paper §4), and masks the loss. Tested with TRL 1.16, one process, text prompts, and without vLLM.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from trl import GRPOConfig, GRPOTrainer

from spo.credit.chain import chain_advantages, value_cuts, zero_confident
from spo.credit.partition import cutpoint_interval, cutpoints
from spo.losses import probability_mask
from spo.settings import Partition


@dataclass(frozen=True)
class SPOChain:
    """The three numbers of SPO-chain: cutpoints per segment, rollouts per cut, and the probability threshold."""

    interval: int = 5
    rollouts_per_cut: int = 9
    threshold: float = 0.9


class SPOChainTrainer(GRPOTrainer):
    """GRPOTrainer with segment advantages in place of group advantages, and the policy loss on uncertain tokens only.

    TRL multiplies its loss by `tool_mask`, so the probability mask travels under that name; Z is the number of True
    positions in the generation batch (`loss_type="dapo"`). `log["advantages"]` still shows TRL's group advantages.
    """

    def __init__(self, *arguments, spo: SPOChain = SPOChain(), **keywords) -> None:
        super().__init__(*arguments, **keywords)
        if self.use_vllm or self.accelerator.num_processes > 1 or self.loss_type != "dapo":
            raise ValueError("SPOChainTrainer: needs one process, use_vllm=False and loss_type='dapo'")
        self.spo = spo
        self._rewards = torch.empty(0)

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        """Remember the rewards, which TRL turns into group advantages before it returns."""
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._rewards = (rewards * self.reward_weights.to(rewards.device)).nansum(dim=1)
        return rewards

    def _generate_and_score_completions(self, inputs):
        """Replace advantages (B) by (B, T) and add the probability mask (B, T)."""
        batch = super()._generate_and_score_completions(inputs)
        rewards = self._rewards.tolist()
        mask = batch["completion_mask"].bool()
        with torch.no_grad():
            logprobs, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                mask.size(1),
            )
        advantages = torch.zeros_like(logprobs)
        rows = self.segment_advantages(inputs, batch, logprobs, rewards)
        for row, values in enumerate(rows):
            advantages[row, : len(values)] = torch.tensor(values)
        trained = probability_mask(logprobs, mask, self.spo.threshold)
        batch["advantages"] = advantages
        batch["tool_mask"] = trained.int()
        batch["num_items_in_batch"] = trained.sum()
        if "old_per_token_logps" in batch:
            batch["old_per_token_logps"] = logprobs
        return batch

    def segment_advantages(
        self, inputs: Sequence[dict], batch: dict[str, torch.Tensor], logprobs: torch.Tensor, rewards: Sequence[float]
    ) -> list[list[float]]:
        """Return the advantages of the tokens of each completion: the change of value over the token's segment.

        logprobs (B, T) at the sampling temperature; rewards (B). Values at the cuts are means of fresh rollouts, the
        value after the last token is the reward.
        """
        prompts = [
            ids[keep.bool()].tolist() for ids, keep in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
        ]
        responses = [
            ids[keep.bool()].tolist()
            for ids, keep in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
        ]
        own = [logprobs[row, : len(ids)].tolist() for row, ids in enumerate(responses)]
        partition = Partition(interval=self.spo.interval, threshold=self.spo.threshold)
        cuts = [cutpoint_interval(each, [], partition) for each in own]
        estimated = [
            value_cuts(row, "zero", cutpoints(each, self.spo.threshold)[:1] == (0,))
            for row, each in zip(cuts, own, strict=True)
        ]
        # Completions that share a prefix share its value.
        states = {
            tuple(prompts[row] + responses[row][:cut]): (row, cut)
            for row, wanted in enumerate(estimated)
            for cut in wanted
        }
        values = dict(zip(states, self.state_values(inputs, prompts, responses, list(states.values())), strict=True))
        advantages = []
        for row, row_cuts in enumerate(cuts):
            found = [
                values[tuple(prompts[row] + responses[row][:cut])] if cut in estimated[row] else None
                for cut in row_cuts[:-1]
            ] + [rewards[row]]
            earned = zero_confident(chain_advantages(row_cuts, found), own[row], self.spo.threshold)
            advantages.append(earned.tolist())
        return advantages

    def state_values(
        self,
        inputs: Sequence[dict],
        prompts: Sequence[list[int]],
        responses: Sequence[list[int]],
        states: Sequence[tuple[int, int]],
    ) -> list[float]:
        """Return the mean reward of `rollouts_per_cut` fresh continuations of each state.

        states: (row, number of tokens of its response that come before the state).
        """
        if not states:
            return []
        n = self.spo.rollouts_per_cut
        prefixes = [prompts[row] + responses[row][:cut] for row, cut in states for _ in range(n)]
        rollouts, _ = self._generate_single_turn(prefixes, None, {}, n)
        owners = [state for state in states for _ in range(n)]
        whole = [responses[row][:cut] + list(ids) for (row, cut), ids in zip(owners, rollouts, strict=True)]
        examples = [inputs[row] for row, _ in owners]
        graded = super()._calculate_rewards(
            examples,
            [example["prompt"] for example in examples],
            self.processing_class.batch_decode(whole, skip_special_tokens=True),
            whole,
        )
        rewards = (graded * self.reward_weights.to(graded.device)).nansum(dim=1)
        return rewards.view(-1, n).mean(dim=1).tolist()


def main(model: str, problems: str, **settings) -> None:
    """Train on JSON lines with `question` and `answer`, graded as GSM8K is; `settings` go to GRPOConfig."""
    from datasets import load_dataset

    from spo.grading import GRADERS

    grade = GRADERS["gsm8k"].grade
    rows = load_dataset("json", data_files=problems, split="train").map(lambda row: {"prompt": row["question"] + "\n"})

    def correct(completions: list[str], answer: list[str], **_) -> list[float]:
        expected = [solution.rpartition("####")[2].strip() for solution in answer]
        return [float(grade(right, text).correct) for right, text in zip(expected, completions, strict=True)]

    defaults = {"output_dir": "trl-spo-chain", "num_generations": 8, "temperature": 0.6, "beta": 1e-4}
    config = GRPOConfig(per_device_train_batch_size=8, **(defaults | settings))
    SPOChainTrainer(model, reward_funcs=correct, args=config, train_dataset=rows).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
