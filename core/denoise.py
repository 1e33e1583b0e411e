"""The algebra of predictors: what the network is asked at a step, and how its answers become one output.

A predictor is a generator function (x, moment): it yields its questions, is sent the network's answers and returns a
Prediction. Guidance, regions and windows nest; `evaluate` asks all their questions together, each only once, in batches
that fit the memory. Samplers see only the result.

x: (1, C, h, w) float32, scaled for the network: sqrt(a) x0 + sqrt(1 - a) noise. Outputs are float32, shaped like x,
in the model's own prediction type (epsilon, v or sample).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from core.conditioning import Conditioning, join
from core.errors import OutOfMemory
from core.models.needs import CELLS_AT_ONCE
from core.prompts.networks import Loras


class Moment(NamedTuple):
    """Where in the run a question is asked."""

    timestep: Tensor  # scalar
    sigma: float  # sqrt(1 - a) / sqrt(a)
    step: int  # solver step, 0 .. total - 1
    total: int


class Ask(NamedTuple):
    """One pass of one picture through the network. Asks of the same two tensors (by identity), with the same LoRAs, are
    asked once."""

    x: Tensor  # (1, C, h, w)
    text: Conditioning  # (1, tokens, width)
    loras: Loras = ()  # what the network is changed by


class Prediction(NamedTuple):
    """A predictor's answer. sample: the x it belongs to, which the solver steps from; mostly the x that was given."""

    output: Tensor
    sample: Tensor
    parts: Mapping[int, tuple[Tensor, Tensor]] = MappingProxyType({})  # region -> its (x, output); 0: the background
    unguided: Callable[[], Tensor] | None = None  # the output without the prompts, made when somebody wants it: the
    # solver, where its scheduler says needs_unguided, or a trajectory


Questions = Generator[list[Ask], Sequence[Tensor], Prediction]  # yields once
Predictor = Callable[[Tensor, Moment], Questions]


class Network(Protocol):
    """The noise predictor of a model: one batched pass.

    latents: (n, C, h, w). timestep: scalar. text: (n, tokens, width). Returns (n, C, h, w) float32.
    """

    def __call__(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor: ...


@dataclass(eq=False)
class Batches:
    """The network behind `evaluate`: counts evaluations, keeps batches in bounds, halves them when memory ends.

    retreat: makes room when not even one alone fits; whether it could.
    """

    network: Network
    size: int = 32  # pictures in one pass; at 32x32 cells 16 are as fast per picture on a CPU
    cells: int = CELLS_AT_ONCE
    retreat: Callable[[], bool] = lambda: False
    evaluations: int = 0  # one picture through the network once
    halved: bool = False  # the memory once ended
    adapt: Callable[[Loras], None] = lambda loras: None  # makes it one with these LoRAs

    def __call__(self, asks: Sequence[Ask], timestep: Tensor) -> list[Tensor]:
        """Outputs (1, C, h, w) in the order of the asks. Raises OutOfMemory when one alone is too much."""
        alike: dict[tuple[tuple[int, ...], tuple[int, ...], Loras], list[int]] = {}
        for i, ask in enumerate(asks):  # a long prompt's text is longer, and none is padded to another's length
            alike.setdefault((tuple(ask.x.shape), tuple(ask.text.shape), ask.loras), []).append(i)
        outputs: dict[int, Tensor] = {}
        for (shape, _, loras), left in alike.items():
            self.adapt(loras)
            while left:
                most = max(1, min(self.size, self.cells // (shape[-2] * shape[-1])))
                passes = -(-len(left) // most)
                batch = left[:-(-len(left) // passes)]  # 10 at 8 a pass: 5 and 5 need less memory than 8 and 2
                try:
                    latents = torch.cat([asks[i].x for i in batch])
                    answer = self.network(latents, timestep, join([asks[i].text for i in batch]))
                except OutOfMemory:
                    if len(batch) > 1:
                        self.size, self.halved = len(batch) // 2, True
                    elif not self.retreat():
                        raise
                    continue
                outputs.update(zip(batch, answer.split(1), strict=True))
                self.evaluations += len(batch)
                left = left[len(batch):]
        return [outputs[i] for i in range(len(asks))]


def evaluate(predictor: Predictor, network: Batches, x: Tensor, moment: Moment) -> Prediction:
    """Ask the network all that a predictor wants to know at x, each question once."""
    def ask_once(asks: Sequence[Ask]) -> list[Tensor]:
        unique = {(id(ask.x), id(ask.text), ask.loras): ask for ask in asks}
        answers = dict(zip(unique, network(list(unique.values()), moment.timestep), strict=True))
        return [answers[id(ask.x), id(ask.text), ask.loras] for ask in asks]

    questions = predictor(x, moment)
    return _finish(questions, ask_once(next(questions)))


def together(all_questions: Sequence[Questions]) -> Generator[list[Ask], Sequence[Tensor], list[Prediction]]:
    """Several predictors' questions as one list; returns their predictions in order. For `yield from`."""
    asked = [next(questions) for questions in all_questions]
    answers = iter((yield [ask for asks in asked for ask in asks]))
    return [_finish(questions, [next(answers) for _ in asks])
            for questions, asks in zip(all_questions, asked, strict=True)]


def _finish(questions: Questions, answers: Sequence[Tensor]) -> Prediction:
    try:
        questions.send(answers)
    except StopIteration as end:
        prediction: Prediction = end.value
        return prediction
    raise AssertionError("a predictor asks once")


def composed(texts: Sequence[Conditioning], weights: Sequence[float], negative: Conditioning, scale: float,
             both: bool) -> Predictor:
    """Guidance towards several prompts at once (AND): negative + scale * sum of weight * (prompt - negative).

    One evaluation for each text, and one for `negative` if `both`, which may be left out where scale * sum of weights
    is 1. texts, negative: (1, tokens, width). A prompt of negative weight is one to go away from.
    Source: Liu et al. 2022, arXiv:2206.01714, eq. 11; the weights as Automatic1111's.
    """
    def predict(x: Tensor, moment: Moment) -> Questions:
        answers = yield [*([Ask(x, negative)] if both else []), *(Ask(x, text) for text in texts)]
        if not both:
            return Prediction(_sum([scale * weight * answer for weight, answer in zip(weights, answers, strict=True)]),
                              x)
        away, *towards = answers
        steps = [scale * weight * (answer - away) for weight, answer in zip(weights, towards, strict=True)]
        return Prediction(_sum([away, *steps]), x, unguided=lambda: away)

    return predict


def scheduled(at: Callable[[int], Predictor]) -> Predictor:
    """Another predictor for each solver step: at(step), step from 0."""
    def predict(x: Tensor, moment: Moment) -> Questions:
        return at(moment.step)(x, moment)

    return predict


def adapted(predictor: Predictor, loras: Loras) -> Predictor:
    """The same questions, to the network with these LoRAs: those without the prompt too, as in Automatic1111."""
    def predict(x: Tensor, moment: Moment) -> Questions:
        questions = predictor(x, moment)
        answers = yield [ask._replace(loras=loras) for ask in next(questions)]
        return _finish(questions, answers)

    return predict


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """In the first steps a region sees a constant colour outside of its mask, so that it draws its thing inside.

    Source: MultiDiffusion, arXiv:2302.08113, section 4.2, and its published code: a random colour per region and
    step, noised to the step with the run's initial noise; the background is exempt.
    """

    colours: Tensor  # (n, C), latents of constant colours
    noise: Tensor  # (1, C, h, w), the run's initial noise
    steps: int  # the first so many steps of the run
    seed: int

    def view(self, x: Tensor, mask: Tensor, region: int, moment: Moment) -> Tensor:
        """What a region sees. The colour hangs on seed, step and region alone, so that a run can be resumed."""
        choice = random.Random(f"{self.seed} {moment.step} {region}").randrange(len(self.colours))
        signal = 1 / (1 + moment.sigma**2) ** 0.5
        surroundings = signal * self.colours[choice][None, :, None, None] + moment.sigma * signal * self.noise
        return mask * x + (1 - mask) * surroundings


Indices = tuple[Sequence[int], Sequence[int]]  # rows, columns of the latents' cells


def crop(x: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """(1, C, h, w) -> (1, C, len(rows), len(columns)). Indices, not slices: a window may run over the edge."""
    return x[:, :, torch.as_tensor(rows)[:, None], torch.as_tensor(columns)[None, :]]


def paste(part: Tensor, onto: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """`onto`, (1, C, h, w), with `part` in the place that `crop` takes."""
    pasted = onto.clone()
    pasted[:, :, torch.as_tensor(rows)[:, None], torch.as_tensor(columns)[None, :]] = part
    return pasted


@dataclass(frozen=True, eq=False)
class Crops:
    """From step `start` on, regions look at their surroundings only: fewer cells, so less work.

    boxes: of each region that does, by its number; outside of its box a region has no weight.
    """

    boxes: Mapping[int, Indices]
    start: int


def regions(predictors: Sequence[Predictor], weights: Sequence[Tensor], masks: Sequence[Tensor | None],
            names: Sequence[int], bootstrap: Bootstrap | None = None, crops: Crops | None = None) -> Predictor:
    """One predictor per region: outputs fused after guidance, by weights that sum to 1 in every cell.

    weights: each (1, 1, h, w), >= 0. masks: each (1, 1, h, w) in 0..1, what a region sees of x while bootstrapping;
    None for the background, which always sees all of it. names: each region's number in the whole picture.
    Averaging the stepped latents, as MultiDiffusion does, is the same for every solver, because a step is affine in
    the output; so there is one x, one solver, one noise (equality in tests/test_regions.py). A solver that takes the
    unguided output too (CFG++) is affine in both together, and both are fused by the same weights. Where a step is not
    affine (`Sampler.affine`: a step size taken from the output's norm), the size is taken from the fused output's.
    Source: MultiDiffusion, arXiv:2302.08113, eq. 5.
    """
    def predict(x: Tensor, moment: Moment) -> Questions:
        booting = bootstrap is not None and moment.step < bootstrap.steps
        boxes = [crops.boxes.get(name) if crops and moment.step >= crops.start else None for name in names]
        # the same object x wherever nothing is hidden, so that questions can be shared; so too with equal boxes
        views = [bootstrap.view(x, mask, name, moment) if bootstrap and booting and mask is not None else x
                 for name, mask in zip(names, masks, strict=True)]
        cut = {(id(view), box): crop(view, *box) for view, box in zip(views, boxes, strict=True) if box}
        seen = [cut[id(view), box] if box else view for view, box in zip(views, boxes, strict=True)]
        answers = yield from together([p(part, moment) for p, part in zip(predictors, seen, strict=True)])

        def whole(parts: Sequence[Tensor], around: Tensor) -> list[Tensor]:
            return [paste(part, around, *box) if box else part for part, box in zip(parts, boxes, strict=True)]

        samples, outputs = [answer.sample for answer in answers], [answer.output for answer in answers]
        # With soft masks the solver must step the mixture that was seen; binary masks give x back.
        sample = weighted_sum(whole(samples, x), weights) if booting else x
        output = weighted_sum(whole(outputs, x), weights)  # outside of its box a region has no weight
        own = zip(whole(samples, sample), whole(outputs, output), strict=True)
        return Prediction(output, sample, dict(zip(names, own, strict=True)),
                          _unguided(answers, lambda parts: weighted_sum(whole(parts, x), weights)))

    return predict


def _unguided(answers: Sequence[Prediction], fuse: Callable[[Sequence[Tensor]], Tensor]) -> Callable[[], Tensor] | None:
    """The parts' unguided outputs fused; None when one of them, at guidance 1, has none."""
    outputs = [answer.unguided for answer in answers if answer.unguided]
    return (lambda: fuse([output() for output in outputs])) if len(outputs) == len(answers) else None


def windows(predictors: Sequence[Predictor], views: Sequence[Indices], shares: Sequence[Tensor]) -> Predictor:
    """A canvas larger than the model's own size, seen through windows whose outputs are fused by their shares.

    shares: each (1, 1, rows, columns), summing to 1 in every cell over all views. One noise field, one solver.
    Source: MultiDiffusion, arXiv:2302.08113, section 5.1, with smooth shares instead of equal ones.
    """
    places = [(torch.as_tensor(rows)[:, None], torch.as_tensor(columns)[None, :]) for rows, columns in views]

    def fuse(parts: Mapping[int, Tensor], like: Tensor) -> Tensor:
        """The sum of the shares of some windows' parts."""
        total = torch.zeros_like(like)
        for k, part in parts.items():
            rows, columns = places[k]
            total[:, :, rows, columns] += shares[k] * part  # += is safe: no view holds a cell twice
        return total

    def predict(x: Tensor, moment: Moment) -> Questions:
        crops = [x[:, :, rows, columns] for rows, columns in places]
        answers = yield from together([p(part, moment) for p, part in zip(predictors, crops, strict=True)])
        kept = all(answer.sample is part for answer, part in zip(answers, crops, strict=True))
        sample = x if kept else fuse({k: answer.sample for k, answer in enumerate(answers)}, x)
        output = fuse({k: answer.output for k, answer in enumerate(answers)}, x)
        parts = {name: own(name, answers, sample, output)
                 for name in sorted(set().union(*(answer.parts for answer in answers)))}
        return Prediction(output, sample, parts, _unguided(answers, lambda outputs: fuse(dict(enumerate(outputs)), x)))

    def own(name: int, answers: Sequence[Prediction], sample: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """A region's (x, output) over the windows that see it; where none does, those of the picture."""
        found = {k: answer.parts[name] for k, answer in enumerate(answers) if name in answer.parts}
        share = fuse({k: torch.ones_like(shares[k]) for k in found}, sample[:, :1])
        seen, rest = share > 0, share.clamp(min=torch.finfo(share.dtype).tiny)
        sums = [fuse({k: pair[i] for k, pair in found.items()}, sample) / rest for i in (0, 1)]
        return torch.where(seen, sums[0], sample), torch.where(seen, sums[1], output)

    return predict


def weighted_sum(values: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """values: each (1, C, h, w). weights: each (1, 1, h, w), summing to 1 in every cell."""
    total = weights[0] * values[0]
    for weight, value in zip(weights[1:], values[1:], strict=True):
        total = total + weight * value
    return total
