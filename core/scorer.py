"""How well a picture, or a region of it, fits a prompt: a CLIP model's opinion (Radford et al., arXiv:2103.00020).

Storybook brings a small one of its own; beside other models any CLIP folder can stand as `scorer/`. An opinion, no
proof: a CLIP knows what its training showed it, and Storybook's was trained on renders of its own world only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from core.errors import ModelError
from core.masks import painted
from core.request import Region

log = logging.getLogger(__name__)
CALIBRATION = "calibration.json"  # {"temperature", "neutral"}; without it, those of an ordinary CLIP:
NEUTRAL = ("an empty scene", "a plain background", "a blurred picture")
LEAST = 16  # pixels: a region is looked at with at least so much around its middle


class Matches(NamedTuple):
    """n pictures against m prompts. cosine: (n, m) in -1..1. probability: (n, m), each row sums to 1."""

    cosine: np.ndarray
    probability: np.ndarray


@dataclass(frozen=True)
class Preparation:
    """What a CLIP's pictures need, from transformers' preprocessor_config.json; done by PIL and numpy alone."""

    size: tuple[int, int] | int  # height and width; or the shorter side, before the middle is cropped
    crop: tuple[int, int] | None
    resample: Image.Resampling
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Preparation:
        """Raises OSError, ValueError or KeyError for a file that is missing or not of that form."""
        held = json.loads(path.read_text())
        size, crop = held["size"], held.get("crop_size")
        if isinstance(size, dict):
            size = size["shortest_edge"] if "shortest_edge" in size else (size["height"], size["width"])
        if isinstance(crop, dict):
            crop = (crop["height"], crop["width"])
        elif crop is not None:
            crop = (crop, crop)
        return cls(size, crop if held.get("do_center_crop") else None, Image.Resampling(held.get("resample", 3)),
                   np.array(held["image_mean"], np.float32), np.array(held["image_std"], np.float32))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (3, h, w) float32 as the network sees it."""
        image = Image.fromarray(picture)
        if isinstance(self.size, int):
            scale = self.size / min(image.size)
            wanted = (max(self.size, int(image.width * scale)), max(self.size, int(image.height * scale)))
        else:
            wanted = (self.size[1], self.size[0])
        if image.size != wanted:
            image = image.resize(wanted, self.resample)
        if self.crop:
            top, left = (image.height - self.crop[0]) // 2, (image.width - self.crop[1]) // 2
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        values = np.asarray(image, np.float32) / 255
        return ((values - self.mean) / self.std).transpose(2, 0, 1)


@dataclass(eq=False)
class Scorer:
    """A CLIP model in memory, on the CPU: it is small, and asked once a picture."""

    model: Any  # transformers' CLIPModel
    tokenizer: Any
    prepare: Preparation
    temperature: float = 1.0  # of region scores; see calibrate in core/storybook/train_scorer.py
    neutral: tuple[str, ...] = NEUTRAL

    @classmethod
    def load(cls, folder: Path) -> Scorer:
        """Reads a CLIP folder of transformers' layout. Raises ModelError for what is missing or broken."""
        from transformers import CLIPModel, CLIPTokenizer  # slow to import, and asked for after a run

        try:
            model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            prepare = Preparation.read(folder / "preprocessor_config.json")
            held = json.loads((folder / CALIBRATION).read_text()) if (folder / CALIBRATION).exists() else {}
        except Exception as error:  # a broken folder may break any line of two libraries
            why = " ".join(str(error).split())[:160] or type(error).__name__
            raise ModelError(f"The scorer in {folder} could not be loaded ({why}): copy it anew, or take the folder "
                             "away to go without scores.") from error
        return cls(model.eval().requires_grad_(False), tokenizer, prepare, float(held.get("temperature", 1.0)),
                   tuple(held.get("neutral", NEUTRAL)))

    @torch.inference_mode()
    def see(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures (H, W, 3) uint8 -> (n, width) of length 1."""
        pixels = torch.from_numpy(np.stack([self.prepare(picture) for picture in pictures]))
        return _unit(self.model.get_image_features(pixel_values=pixels))

    @torch.inference_mode()
    def read(self, prompts: Sequence[str]) -> np.ndarray:
        """Prompts -> (m, width) of length 1; what is longer than the text tower reads is cut."""
        length = self.model.config.text_config.max_position_embeddings
        held = self.tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True,
                              return_tensors="pt")
        return _unit(self.model.get_text_features(input_ids=held.input_ids, attention_mask=held.attention_mask))

    @property
    def scale(self) -> float:
        """What cosines are multiplied with before the softmax."""
        return float(self.model.logit_scale.exp().clamp(max=100))

    def score(self, pictures: Sequence[np.ndarray], prompts: Sequence[str]) -> Matches:
        """Each picture (H, W, 3) uint8 against each prompt. The probability is among these prompts only."""
        seen, texts = self.see(pictures), self.read(prompts)
        return Matches(seen @ texts.T, self.sorted(seen, texts))

    def sorted(self, seen: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """(n, width) of `see`, (m, width) of `read` -> (n, m): how surely each picture is which text's."""
        return _softmax(self.scale * (seen @ texts.T))

    def clip_score(self, picture: np.ndarray, prompt: str) -> float:
        """100 x cosine, not below 0: higher is closer to the prompt; to be compared only with the same scorer's.

        Source: CLIPScore, Hessel et al. 2021, arXiv:2104.08718, with the factor that most tools use.
        """
        return max(0.0, 100 * float(self.score([picture], [prompt]).cosine[0, 0]))

    def part(self, picture: np.ndarray, region: Region) -> np.ndarray:
        """The bounding box of a region, cut from the picture."""
        return _part(picture, painted(region.shape, picture.shape[1], picture.shape[0]))

    def logits(self, part: np.ndarray, own: str, others: Sequence[str]) -> np.ndarray:
        """A region's own prompt, `others` and the neutral prompts against its part of the picture, before softmax."""
        prompts = list(dict.fromkeys([own, *others, *self.neutral]))
        return self.scale * (self.see([part]) @ self.read(prompts).T)[0]

    def region_scores(self, picture: np.ndarray, regions: Sequence[Region]) -> dict[int, float]:
        """Region number (1 is the first) -> 0..1: how sure the scorer is that its prompt's thing is there.

        The part of the picture in the region's bounding box (where no later region covers it), its own prompt against
        those of the other regions and a few that say "nothing here"; softmax with the temperature that the scorer's
        calibration found. So 0.9 means: of such regions in unseen renders about nine in ten showed their thing. It is
        no measure of beauty, says little about prompts outside of the scorer's world, and a region without a visible
        pixel has no score. Two regions with the same prompt do not compete.
        """
        height, width = picture.shape[:2]
        scores: dict[int, float] = {}
        covered = np.zeros((height, width), bool)
        for number, region in reversed(list(enumerate(regions, 1))):
            mask = painted(region.shape, width, height)
            seen = mask & ~covered
            covered |= mask
            if seen.any():
                others = [other.prompt for other in regions if other is not region]
                logits = self.logits(_part(picture, seen), region.prompt, others)
                scores[number] = float(_softmax(logits[None] / self.temperature)[0, 0])
        return dict(sorted(scores.items()))


def scorer_folder(model: Path | str) -> Path | None:
    """The scorer that belongs to a model's folder: its own `scorer/`, a CLIP folder; None where there is none."""
    folder = Path(model) / "scorer"
    return folder if (folder / "config.json").is_file() else None


class Scores:
    """The scorer of the model asked last, kept. A missing or broken one costs nobody a picture."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._scorer: Scorer | None = None

    def of_regions(self, model: Path | str, pictures: Sequence[np.ndarray],
                   regions: Sequence[Region]) -> list[dict[int, float]]:
        """Scorer.region_scores of each picture; empty without regions, without a scorer, or where it fails."""
        folder = scorer_folder(model)
        if not regions or folder is None:
            return []
        try:
            if folder != self._folder:
                self._folder, self._scorer = folder, None  # a broken one is tried once
                self._scorer = Scorer.load(folder)
            return [self._scorer.region_scores(picture, regions) for picture in pictures] if self._scorer else []
        except ModelError as error:
            log.warning("%s", error)
        except Exception:
            log.warning("the scorer of %s failed", model, exc_info=True)
        return []


def _part(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The bounding box of a mask (H, W), cut from the picture (H, W, 3)."""
    top, bottom = _span(np.flatnonzero(mask.any(1)), mask.shape[0])
    left, right = _span(np.flatnonzero(mask.any(0)), mask.shape[1])
    return np.ascontiguousarray(picture[top:bottom, left:right])


def _span(places: np.ndarray, length: int) -> tuple[int, int]:
    """From the first to behind the last of some places below `length`, widened to LEAST where there is room."""
    start, stop = int(places[0]), int(places[-1]) + 1
    start = max(0, min(start - (LEAST - (stop - start)) // 2, start))
    return start, min(length, max(stop, start + LEAST))


def _unit(features: Any) -> np.ndarray:
    values = getattr(features, "pooler_output", features)
    return torch.nn.functional.normalize(values.float(), dim=-1).numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
