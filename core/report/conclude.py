"""What follows from the figures of the samplers' page, in sentences: each is computed, none is written by hand.

Values of two samplers are compared picture by picture, same prompt and same noise: a difference counts where Student's
95 % interval of its mean leaves zero out. With few pictures only large ones do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from core.report.measure import Mark, Measured
from core.report.pace import PACE, ROUNDS

NAMED = 3  # samplers that a sentence about the best ones names
SAME = 30.0  # decibels: pictures that people take for the same side by side
GAIN = 0.9  # more calls that leave more than this share of the distance have gained little
LITTLE = 0.05  # of the reference's score: what more calls must at most bring where they are said to bring nothing
SLOW = 1.1  # times as long, that is worth a word


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean's 95 % interval; without bounds for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    from scipy.stats import t

    spread = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - spread, float(values.mean()) + spread


def below(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether one's mean is lower than the other's beyond chance; paired."""
    return len(one) == len(other) > 0 and interval(one - other)[1] < 0


def conclusions(measured: Measured) -> list[tuple[str, list[str]]]:
    """(heading, sentences) each; headings without a sentence are left out."""
    parts = [("Samplers without noise of their own: who comes closest to the exact solution", list(_closest(measured))),
             ("Where more calls stop bringing it closer", list(_gains(measured))),
             ("The scorer's opinion, of all samplers", list(_scores(measured))),
             ("As sets of pictures", list(_sets(measured))),
             ("Time", list(_time(measured)))]
    return [(heading, sentences) for heading, sentences in parts if sentences]


def _closest(measured: Measured) -> Iterator[str]:
    for calls in measured.plan.calls:
        marks = _by_distance(measured, calls)
        if len(marks) < 2:
            continue
        best, last = marks[0], marks[-1]
        close = [mark.sampler for mark in marks[1:] if not below(best.distance, mark.distance)]
        ties = f" Not told from it by these pictures: {listed(close)}." if close else ""
        farthest = f"; farthest is {last.sampler} ({last.distance.mean():.3f})" if len(marks) > NAMED else ""
        yield (f"**{calls} calls:** {best.sampler} ({best.distance.mean():.3f}), then "
               f"{listed([f'{mark.sampler} ({mark.distance.mean():.3f})' for mark in marks[1:NAMED]])}"
               f"{farthest}.{ties}")
    for fewer, more in zip(measured.plan.calls, measured.plan.calls[1:], strict=False):
        few, many = _by_distance(measured, fewer), _by_distance(measured, more)
        beaten = [mark.sampler for mark in many if few and below(few[0].distance, mark.distance)]
        if beaten:
            yield f"{few[0].sampler} at {fewer} calls is closer than {listed(beaten)} at {more}."


def _gains(measured: Measured) -> Iterator[str]:
    pairs = list(zip(measured.plan.calls, measured.plan.calls[1:], strict=False))
    for fewer, more in pairs:
        idle = [name for name in measured.plan.names if _gained(measured, name, fewer, more) is False]
        if idle:
            yield (f"From {fewer} to {more} calls the distance of {listed(idle)} falls by less than "
                   f"{100 * (1 - GAIN):.0f} %.")
    if pairs and not any(_gained(measured, name, *pair) is False for name in measured.plan.names for pair in pairs):
        yield f"Every one of them comes closer with every doubling, by {100 * (1 - GAIN):.0f} % at least."
    first: dict[int, list[str]] = {}
    for name in measured.plan.names:
        reached = [mark.calls for mark in measured.of(name) if len(mark.psnr) and mark.psnr.mean() >= SAME]
        if reached:
            first.setdefault(reached[0], []).append(name)
    for calls, names in sorted(first.items()):
        yield f"A picture that can hardly be told from the reference's ({SAME:.0f} dB) takes {calls} calls of " \
              f"{listed(names, 'or')}."
    if not first and any(len(mark.psnr) for mark in measured.marks):
        yield (f"Within {measured.plan.calls[-1]} calls no sampler's pictures come to {SAME:.0f} dB of the "
               "reference's, on average.")


def _gained(measured: Measured, name: str, fewer: int, more: int) -> bool | None:
    """Whether a sampler comes noticeably closer with more calls; None where that cannot be asked."""
    marks = {mark.calls: mark for mark in measured.of(name) if len(mark.distance)}
    if fewer not in marks or more not in marks or marks[fewer].asked == marks[more].asked:
        return None
    return bool(marks[more].distance.mean() < GAIN * marks[fewer].distance.mean())


def _scores(measured: Measured) -> Iterator[str]:
    wanted = measured.reference.score
    if not len(wanted):
        return
    low, high = interval(wanted)
    spread = f" ({low:.1f} to {high:.1f})" if math.isfinite(low) else ""
    yield (f"The {len(wanted)} pictures of the reference runs score {wanted.mean():.1f}{spread}. Others are held "
           "against them picture by picture.")
    for calls in measured.plan.calls:
        short = [mark for mark in measured.at(calls) if below(mark.score, wanted)]
        short.sort(key=lambda mark: mark.score.mean())
        if short:
            yield (f"**{calls} calls** are too few for "
                   f"{listed([f'{mark.sampler} ({mark.score.mean():.1f})' for mark in short])}: they score lower than "
                   "the reference runs, beyond chance.")
        elif measured.at(calls):
            yield f"With **{calls} calls** none is shown to score lower than the reference runs."
    enough: dict[int, list[str]] = {}
    for name in measured.plan.names:
        if calls_enough := enough_calls(measured.of(name), wanted):
            enough.setdefault(calls_enough, []).append(name)
    for calls, names in sorted(enough.items()):
        if calls < measured.plan.calls[-1]:
            yield (f"More than {calls} calls raise the score of {listed(names)} by less than {100 * LITTLE:.0f} % of "
                   "the reference's.")


def enough_calls(marks: Sequence[Mark], wanted: np.ndarray) -> int:
    """The fewest calls from which on more of them raise the score by less than LITTLE, as sure as the intervals are,
    and that do not leave it below the references' scores, `wanted`; 0 where that cannot be said of any."""
    little = LITTLE * float(wanted.mean())
    for k, mark in enumerate(marks[:-1]):
        gains = [interval(more.score - mark.score)[1] for more in marks[k + 1:]]
        if not below(mark.score, wanted) and max(gains) < little:
            return mark.calls
    return 0


def _sets(measured: Measured) -> Iterator[str]:
    for calls in measured.plan.calls:
        marks = sorted((mark for mark in measured.at(calls) if mark.fid is not None), key=lambda mark: mark.fid or 0)
        if len(marks) > 1:
            yield (f"**{calls} calls:** as a set, the pictures of "
                   f"{listed([f'{mark.sampler} ({mark.fid:.3f})' for mark in marks[:NAMED]])} lie closest to those of "
                   f"the reference runs, those of {marks[-1].sampler} ({marks[-1].fid:.3f}) farthest.")


def _time(measured: Measured) -> Iterator[str]:
    slow = sorted(((pace.middle, name) for name, pace in measured.paces.items() if pace.low > SLOW), reverse=True)
    if len(measured.paces) < 2:
        return
    if PACE in [name for _, name in slow]:  # it is held against itself
        yield (f"The machine was too busy to tell: {PACE} against itself took {measured.paces[PACE].middle:.2f} times "
               "as long, more than a tenth more in every round.")
        return
    if slow:
        yield (f"A network call costs more than a tenth more than with {PACE}, in every round, with "
               f"{listed([f'{name} ({middle:.2f} times)' for middle, name in slow])}. Of no other can that be said.")
    else:
        yield (f"With no sampler a network call costs more than a tenth more than with {PACE}, in every one of "
               f"{ROUNDS} rounds.")


def _by_distance(measured: Measured, calls: int) -> list[Mark]:
    """The samplers whose distance is an error, closest first."""
    return sorted((mark for mark in measured.at(calls) if len(mark.distance)), key=lambda mark: mark.distance.mean())


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else "none"
