"""The one training loop of every stage: time budget, checkpoints that survive a kill, EMA, repeatable losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.storybook.progress import Progress, load_checkpoint, save_checkpoint

DECAY = 0.35  # the last share of the budget in which the learning rate falls to zero (cosine)
WARM_UP = 100  # steps
EMA = 0.999
CHECKPOINT_SECONDS = 60.0


Batch = dict[str, Tensor]


def gradients(
    parameters: list[nn.Parameter],
    batch: Batch,
    loss_of: Callable[[Batch], tuple[Tensor, dict[str, float]]],
    pool: ThreadPoolExecutor,
    workers: int,
) -> tuple[float, dict[str, float]]:
    """Sets .grad to the mean gradient of the batch, each worker thread taking an equal part -> (loss, figures).

    On a CPU threads of whole passes beat threads inside operators: small maps give the latter little to share, and a
    thread that another program holds up does not stall every operator. Parts are summed in order: repeatable.
    """

    def part(index: int) -> tuple[list[Tensor], float, dict[str, float]]:
        loss, figures = loss_of({name: rows.chunk(workers)[index] for name, rows in batch.items()})
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return list(found), loss.item(), figures

    results = list(pool.map(part, range(workers))) if workers > 1 else [part(0)]
    for i, parameter in enumerate(parameters):
        parts = [grads[i] for grads, _, _ in results]
        parameter.grad = None if parts[0] is None else sum(parts[1:], parts[0]) / workers
    figures = {name: sum(f[name] for _, _, f in results) / workers for name in results[0][2]}
    return sum(loss for _, loss, _ in results) / workers, figures


def learning_rate(step: int, share: float) -> float:
    """The factor on the learning rate: warm-up, level, and a cosine to zero at the end of the budget (share 0..1)."""
    rise = min(1.0, (step + 1) / WARM_UP)
    fall = 1.0 if share < 1 - DECAY else 0.5 + 0.5 * math.cos(math.pi * (share - 1 + DECAY) / DECAY)
    return rise * fall


def fit(
    stage: str,
    path: Path,
    modules: dict[str, nn.Module],
    rates: dict[str, float],
    draw: Callable[[torch.Generator], Batch],
    loss_of: Callable[[Batch], tuple[Tensor, dict[str, float]]],
    *,
    batch: int,
    workers: int = 1,
    minutes: float,
    seed: int = 0,
    steps: int | None = None,
    weight_decay: float = 0.01,
    keep_ema: bool = True,
    sheet: Callable[[dict[str, nn.Module], int], None] | None = None,
    sheet_seconds: float = 300.0,
    start: Callable[[], None] | None = None,
    device: torch.device | None = None,
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Trains `modules` in place -> (their EMA, the final state).

    draw: a batch (tensors whose first dimension is the batch) from a generator. loss_of: its mean loss and figures to
    print. workers: threads that share each batch. rates: learning rate per module.
    minutes: of training altogether, over all resumptions. steps: stop after this many altogether (for tests).
    start: called when there is no checkpoint to resume. sheet: called with the EMA and the samples so far.
    """
    groups: list[dict[str, Any]] = [
        {"params": list(module.parameters()), "lr": rates[name]} for name, module in modules.items()
    ]
    device = device or torch.device("cpu")
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
    generator = torch.Generator("cpu").manual_seed(seed)
    state = load_checkpoint(path)
    if state is None and start:
        start()
    ema = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in modules.items()}
    done, samples, spent = 0, 0, 0.0
    losses: list[float] = []
    if state is not None:
        for name in modules:
            modules[name].load_state_dict(state["modules"][name])
            ema[name].load_state_dict(state["ema"][name])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        done, samples, spent = state["step"], state["samples"], state["spent"]
    progress = Progress(stage, minutes - spent / 60)
    average, saved, drawn = None, 0.0, 0.0
    parameters = [p for group in groups for p in group["params"]]
    pool = ThreadPoolExecutor(workers)

    def snapshot() -> dict[str, Any]:
        return {
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "ema": {name: module.state_dict() for name, module in ema.items()},
            "optimiser": optimiser.state_dict(),
            "generator": generator.get_state(),
            "step": done,
            "samples": samples,
            "spent": spent + progress.elapsed(),
            "device": str(device),
        }

    while progress.time_left() > 0 and (steps is None or done < steps):
        factor = learning_rate(done, (spent + progress.elapsed()) / (minutes * 60))
        for group, name in zip(optimiser.param_groups, modules, strict=True):
            group["lr"] = rates[name] * factor
        value, figures = gradients(parameters, draw(generator), loss_of, pool, workers)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        done, samples = done + 1, samples + batch
        if keep_ema:
            decay = min(EMA, (1 + done) / (10 + done))
            for name in modules:
                pairs = zip(ema[name].parameters(), modules[name].parameters(), strict=True)
                slow, fast = map(list, zip(*pairs, strict=True))
                torch._foreach_lerp_(slow, [p.detach() for p in fast], 1 - decay)
        losses.append(value)
        average = value if average is None else 0.98 * average + 0.02 * value
        progress.show(samples, {"loss": average, **figures, "lr": factor})
        if progress.elapsed() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(path, snapshot())
            saved = progress.elapsed()
        if sheet and progress.elapsed() - drawn > sheet_seconds:
            sheet(ema, samples)
            drawn = progress.elapsed()
    final = snapshot()
    save_checkpoint(path, final)
    if sheet:
        sheet(ema, samples)
    print(f"{stage}: {samples} samples in {final['spent'] / 60:.1f} min, loss {average}", flush=True)
    return (ema if keep_ema else modules), {**final, "losses": losses}
