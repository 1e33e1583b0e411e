"""The one training loop of every stage: time budget, checkpoints that survive a kill, EMA, repeatable losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.storybook.networks import workers as cores
from core.storybook.progress import Progress, load_checkpoint, save_checkpoint

DECAY = 0.35  # the last share of the budget in which the learning rate falls to zero (cosine)
WARM_UP = 100  # steps
EMA = 0.999
CHECKPOINT_SECONDS = 60.0


Batch = dict[str, Tensor]
Loss = Callable[[Batch], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Run:
    """How a stage is run, whatever the stage: what the command line says."""

    folder: Path  # scenes, checkpoints, sample sheets
    minutes: float  # of training altogether, over all resumptions
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch: int = 0  # 0: what suits the stage on this device
    rate: float = 0.0  # 0: the stage's own
    steps: int | None = None  # stop after this many altogether (for tests)

    def batch_or(self, cpu: int, gpu: int) -> int:
        """The batch asked for, else the stage's own for this kind of device."""
        return self.batch or (cpu if self.device.type == "cpu" else gpu)


def gradients(
    parameters: list[nn.Parameter], batch: Batch, loss_of: Loss, pool: ThreadPoolExecutor, workers: int
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


@dataclass(eq=False)
class Training:
    """All that a checkpoint holds: networks, their EMA, the optimiser, the random numbers and the counts."""

    modules: dict[str, nn.Module]
    rates: dict[str, float]  # of learning, per module
    ema: dict[str, nn.Module]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    done: int = 0  # steps
    samples: int = 0
    spent: float = 0.0  # seconds

    @classmethod
    def begin(cls, modules: dict[str, nn.Module], rates: dict[str, float], seed: int, weight_decay: float) -> Training:
        groups = [{"params": [p for p in module.parameters() if p.requires_grad], "lr": rates[name]}
                  for name, module in modules.items()]
        optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=weight_decay, fused=True)
        ema = {name: copy.deepcopy(module).eval().requires_grad_(False) for name, module in modules.items()}
        return cls(modules, rates, ema, optimiser, torch.Generator("cpu").manual_seed(seed))

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def resume(self, state: dict[str, Any]) -> None:
        for name in self.modules:
            self.modules[name].load_state_dict(state["modules"][name])
            self.ema[name].load_state_dict(state["ema"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.done, self.samples, self.spent = state["step"], state["samples"], state["spent"]

    def snapshot(self, seconds: float, device: torch.device) -> dict[str, Any]:
        """The checkpoint. seconds: spent since the start or the last resumption."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "ema": {name: module.state_dict() for name, module in self.ema.items()},
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.done,
            "samples": self.samples,
            "spent": self.spent + seconds,
            "device": str(device),
        }

    def step(self, factor: float, batch: int) -> None:
        """Moves the networks along the gradients they hold. factor: on the learning rates."""
        for group, name in zip(self.optimiser.param_groups, self.modules, strict=True):
            group["lr"] = self.rates[name] * factor
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.done, self.samples = self.done + 1, self.samples + batch
        decay = min(EMA, (1 + self.done) / (10 + self.done))
        for name, module in self.modules.items():
            pairs = zip(self.ema[name].parameters(), module.parameters(), strict=True)
            slow, fast = map(list, zip(*pairs, strict=True))
            torch._foreach_lerp_(slow, [p.detach() for p in fast], 1 - decay)


def fit(
    stage: str,
    run: Run,
    modules: dict[str, nn.Module],
    rates: dict[str, float],
    draw: Callable[[torch.Generator], Batch],
    loss_of: Loss,
    *,
    workers: int | None = None,
    seed: int = 0,
    weight_decay: float = 0.01,
    sheet: Callable[[dict[str, nn.Module], int], None] | None = None,
    sheet_seconds: float = 300.0,
    start: Callable[[], None] | None = None,
) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Trains `modules` in place, with checkpoints in run.folder / STAGE.pt -> (their EMA, the final state).

    draw: a batch (tensors whose first dimension is the batch) from a generator. loss_of: its mean loss and figures to
    print. rates: learning rate per module. workers: threads that share each batch; None: one per core.
    start: called when there is no checkpoint to resume. sheet: called with the EMA and the samples so far.
    """
    path, workers = run.folder / f"{stage}.pt", workers or cores(run.device)
    state = load_checkpoint(path)
    if state is None and start:
        start()
    training = Training.begin(modules, rates, seed, weight_decay)
    if state is not None:
        training.resume(state)
    progress = Progress(stage, run.minutes - training.spent / 60)
    parameters, losses = training.parameters, []
    average, saved, drawn = None, 0.0, 0.0
    pool = ThreadPoolExecutor(workers)
    while progress.time_left() > 0 and (run.steps is None or training.done < run.steps):
        factor = learning_rate(training.done, (training.spent + progress.elapsed()) / (run.minutes * 60))
        batch = draw(training.generator)
        value, figures = gradients(parameters, batch, loss_of, pool, workers)
        training.step(factor, len(next(iter(batch.values()))))
        losses.append(value)
        average = value if average is None else 0.98 * average + 0.02 * value
        progress.show(training.samples, {"loss": average, **figures, "lr": factor})
        if progress.elapsed() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(path, training.snapshot(progress.elapsed(), run.device))
            saved = progress.elapsed()
        if sheet and progress.elapsed() - drawn > sheet_seconds:
            sheet(training.ema, training.samples)
            drawn = progress.elapsed()
    final = training.snapshot(progress.elapsed(), run.device)
    save_checkpoint(path, final)
    if sheet:
        sheet(training.ema, training.samples)
    print(f"{stage}: {training.samples} samples in {final['spent'] / 60:.1f} min, loss {average}", flush=True)
    return training.ema, {**final, "losses": losses}
