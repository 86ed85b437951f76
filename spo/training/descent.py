"""The optimizer of a run with its schedule, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW, Muon

from spo import finite
from spo.finite import NotFinite
from spo.settings import Optimizer
from spo.training import ranks


class Descent:
    """The optimizer of a run, with its schedule: AdamW, or Muon for the matrices inside the layers (`muon_lr`).

    Weights that are not float32, or not on `device` ("model": where they are), have a float32 copy there, which steps
    are added to and from which they are then rounded: at a learning rate of 1e-6 most steps are smaller than bfloat16
    can tell apart. Gradients of such weights are added up in float32 on `device` as they arise, and not kept by them.

    Of several processes each has those copies, the moments and the steps of a share of the weights alone (ZeRO stage 1,
    Rajbhandari et al. 2020): gradients are added up where a weight is stepped, and its new value is sent to the others.
    PyTorch's ZeroRedundancyOptimizer takes its whole state into one process before it can be saved; its FSDP2 puts
    shards in the place of the weights, while samplers need them whole.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], settings: Optimizer, total_steps: int, device: str = "model"
    ) -> None:
        self.settings, self.total_steps, self.steps = settings, total_steps, 0
        #: What the model computes with, and what the optimizer updates: one tensor or two of the same name.
        self.live = dict(weights)
        #: Which process steps a weight.
        self.owners = ranks.owners({name: weight.numel() for name, weight in self.live.items()}, ranks.count())
        own = {name for name, owner in self.owners.items() if owner == ranks.rank()}
        self.weights = {name: _master(weight, device, name in own) for name, weight in self.live.items()}
        #: Of those, what this process steps.
        self.own = weights = {name: weight for name, weight in self.weights.items() if name in own}
        inner = {n for n, w in weights.items() if settings.muon_lr and w.ndim == 2 and ".layers." in n}
        betas = (settings.beta1, settings.beta2)
        outer = [w for n, w in weights.items() if n not in inner]
        decay = settings.weight_decay
        #: (optimizer, its peak learning rate)
        self.parts: list[tuple[torch.optim.Optimizer, float]] = []
        if outer:
            self.parts.append((AdamW(outer, settings.lr, betas, settings.eps, decay, fused=True), settings.lr))
        if inner:
            matrices = [w for n, w in weights.items() if n in inner]
            self.parts.append((Muon(matrices, settings.muon_lr, decay), settings.muon_lr))

    def step(self) -> tuple[float, float]:
        """Clip, update, clear: (gradient norm before clipping, learning rate used).

        Raises NotFinite before anything changes if the norm is not finite.
        """
        self._collect()
        total = self._norm()
        norm = float(total)
        if not math.isfinite(norm):
            with finite.explained(self.live):
                raise NotFinite(f"gradient norm is {norm}")
        clip_grads_with_norm_(self.own.values(), self.settings.max_grad_norm, total)
        factor = schedule(self.settings, self.steps, self.total_steps)
        for part, peak in self.parts:
            for group in part.param_groups:
                group["lr"] = peak * factor
            part.step()
        self._publish()
        self.clear()
        self.steps += 1
        return norm, self.settings.lr * factor

    def restart(self, weights: Mapping[str, Tensor], total_steps: int) -> None:
        """Begin anew at `weights`: without moments, and with a schedule of its own over `total_steps`."""
        for name, weight in self.own.items():
            weight.data.copy_(weights[name].detach())
        self._publish()
        for part, _ in self.parts:
            part.state.clear()
        self.steps, self.total_steps = 0, total_steps

    def kept(self) -> dict[str, Tensor]:
        """Return copies of the weights that this process steps, in main memory."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.own.items()}

    def adopt(self, weights: Mapping[str, Tensor]) -> None:
        """Go back to weights that `kept` returned; moments and schedule stay as they are."""
        for name, weight in self.own.items():
            weight.data.copy_(weights[name])
        self._publish()

    def clear(self) -> None:
        """Forget the gradients."""
        for weight in self.weights.values():
            weight.grad = None

    def _collect(self) -> None:
        """Add up the gradients of all processes where a weight is stepped, and forget them elsewhere."""
        if ranks.count() == 1:
            return
        there = ranks.anywhere([weight.grad is not None for weight in self.weights.values()])
        for (name, weight), needed in zip(self.weights.items(), there, strict=True):
            if needed:
                if weight.grad is None:  # a process without a part of the batch
                    weight.grad = torch.zeros(weight.shape, dtype=weight.dtype, device=weight.device)
                ranks.add_up(weight.grad, self.owners[name])
            if name not in self.own:
                weight.grad = None

    def _norm(self) -> Tensor:
        """Length of the whole gradient, of all processes together."""
        norm = get_total_norm([weight.grad for weight in self.own.values() if weight.grad is not None])
        if ranks.count() == 1:
            return norm
        return torch.tensor(math.sqrt(ranks.added({"square": float(norm) ** 2})["square"]))

    def _publish(self) -> None:
        """Round what the optimizer updates to what the model computes with, in every process."""
        for name, weight in self.live.items():
            if name in self.own and weight is not self.own[name]:
                weight.data.copy_(self.own[name].detach())
            if ranks.count() > 1:
                ranks.spread(weight.data, self.owners[name])

    def tensors(self) -> dict[str, Tensor]:
        """Weights in float32 and moments, for a checkpoint: the very tensors, not copies, of what is stepped here."""
        out = {f"weight/{name}": weight for name, weight in self.own.items()}
        for part, _ in self.parts:
            for name, weight in self.own.items():
                moments = part.state.get(weight, {})
                out |= {f"{moment}/{name}": value for moment, value in moments.items() if moment != "step"}
        return out

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Put back what `tensors` returned after `steps` steps, in all processes together."""
        self.steps = steps
        names = {id(weight): name for name, weight in self.own.items()}
        for name, weight in self.own.items():
            weight.data.copy_(tensors[f"weight/{name}"])
        self._publish()
        for part, _ in self.parts:
            for weight in part.param_groups[0]["params"]:
                for moment in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
                    if (saved := tensors.get(f"{moment}/{names[id(weight)]}")) is not None:
                        part.state[weight][moment] = torch.empty_like(weight).copy_(saved)
                        if moment == "exp_avg":
                            # Beside its weight: the fused step reads it on the GPU.
                            part.state[weight]["step"] = torch.tensor(float(steps), device=weight.device)


def _master(weight: Tensor, device: str, own: bool) -> Tensor:
    """The float32 tensor on `device` that the optimizer updates for `weight`, and to which its gradients go; where
    another process does that, one that only collects them and takes no memory."""
    where = weight.device if device == "model" else torch.device(device)
    if weight.dtype == torch.float32 and weight.device == where:
        return weight
    if own:
        master = weight.detach().to(where, torch.float32).requires_grad_()
    else:
        master = torch.zeros((), device=where).expand(weight.shape).requires_grad_()

    def hand_over(weight: Tensor) -> None:
        grad, weight.grad = weight.grad, None
        if master.grad is None:
            master.grad = grad.to(where, torch.float32)
        else:
            master.grad += grad.to(where)

    weight.register_post_accumulate_grad_hook(hand_over)
    return master


def schedule(settings: Optimizer, step: int, total_steps: int) -> float:
    """Factor of the peak learning rate at optimizer step `step` (from 0) of `total_steps` (spec §5.1).

    The warm-up takes W = `warmup_share` x T steps, rounded up as in the official code; at step W the rate is full.
    Deviation: the official scheduler lags behind its optimizer. Its step 0 runs at the full rate, step s > 0 at
    log(s) / log(W) and, after the warm-up, at (T - s + 1) / (T - W). Here step s has log(s + 2) / log(W) and
    (T - s) / (T - W), without the full and the zero rate of the first two steps.

    >>> [round(schedule(Optimizer(schedule="linear", warmup_share=0.2), step, 10), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    # Less than a step is rounding: 0.07 x 100 is 7.000000000000001.
    warmup = math.ceil(settings.warmup_share * total_steps - 1e-9)
    if step < warmup:
        if settings.schedule == "log_warmup_linear" and warmup > 1:
            return min(1.0, math.log(step + 2) / math.log(warmup))
        return (step + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    left = (total_steps - step) / max(1, total_steps - warmup)
    return 0.5 - 0.5 * math.cos(math.pi * left) if settings.schedule == "cosine" else left
