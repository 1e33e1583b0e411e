"""A second network for the end of a run: which one, and from when on. Needs no torch, but for `first_refined`."""

from __future__ import annotations

from pathlib import Path

from core import samplers
from core.errors import BadRequest, ModelError
from core.models.catalogue import Catalogue, ModelInfo
from core.models.header import shown
from core.request import Request

TRAINED = 1000  # timesteps of the training, as every model of Stable Diffusion has them


def refiner_of(request: Request, info: ModelInfo, catalogue: Catalogue) -> ModelInfo | None:
    """The refiner that a request names, None where it names none. info: of its model.

    Raises BadRequest, one line, for a refiner that is not here or cannot go with the model, and for one in the model's
    place.
    """
    refuse_alone(info)
    if not request.refiner:
        return None
    try:
        found = catalogue.get(request.refiner)
    except ModelError as error:
        raise BadRequest(str(error), "refiner") from None
    who = shown(Path(found.name).name)
    if not found.is_refiner:
        raise BadRequest(f"{who} is no refiner, but a model by itself: choose a refiner of Stable Diffusion XL, "
                         "or none.", "refiner")
    if info.family != "sdxl":
        model = info.kind or "of another family"
        raise BadRequest(f"{who} refines what Stable Diffusion XL began, and {info.name[:80]} is {model}: choose no "
                         "refiner, or a model of Stable Diffusion XL.", "refiner")
    if (found.prediction, found.multiple) != (info.prediction, info.multiple):
        raise BadRequest(f"{who} predicts {found.prediction} and {info.name[:80]} {info.prediction}, so that neither "
                         "can go on from the other: choose no refiner, or another model.", "refiner")
    return found


def refuse_alone(info: ModelInfo) -> None:
    """Raises BadRequest for a refiner that shall paint by itself."""
    if info.is_refiner:
        raise BadRequest(f"{info.name[:80]} is the refiner of Stable Diffusion XL, which only ends what another model "
                         "began: choose a model of Stable Diffusion XL, and this as its refiner.", "model")


def takes_over(request: Request, timestep: float) -> bool:
    """Whether the refiner takes the solver step that begins at a timestep: as diffusers' denoising_start."""
    return timestep < round(TRAINED - request.refiner_from * TRAINED)


def first_refined(request: Request, info: ModelInfo) -> int:
    """The solver step, from 0, at which the refiner of a run that was never forked takes over; the number of steps,
    where it never does. info: of the model. The timesteps are diffusers', so this imports torch.
    """
    from core.models.parts import training_of
    from core.samplers.build import build

    entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
    times = build(entry, schedule, request.steps, training_of(info), request.seed).timesteps
    counts = entry.call_counts(request.steps)
    return next((k for k in range(request.steps) if takes_over(request, float(times[sum(counts[:k])]))), request.steps)
