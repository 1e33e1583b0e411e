"""The scorer stage: a small CLIP (text and picture towers) that says how well a picture, or a part, fits a prompt."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig

from core.request import Region
from core.scorer import CALIBRATION, Scorer
from core.storybook import networks as n
from core.storybook.judge import unseen_scenes
from core.storybook.loop import Batch, Run, fit
from core.storybook.scenes import paint
from core.storybook.scorer_data import NOTHING, PHRASES, POSSIBLE, cut, load_examples, phrase
from core.storybook.tokens import encode, make_tokenizer, save_tokenizer
from core.storybook.train_text import contrast
from core.storybook.vocabulary import COLOURS, THINGS, article

SIDE = 96  # pixels a picture is reduced to
PATCH = 12  # pixels
WIDTH = 128
LAYERS = 4
RATE = 1e-3
WORDINGS = 8  # of each phrase
PHRASE_TOKENS = 10  # "a crimson hot air balloon" and its two marks fit
NEUTRAL = [phrase(i) for i in range(NOTHING, len(PHRASES))]  # what a region shows where its prompt was ignored
REGIONS = 400  # of unseen renders in the calibration
TEMPERATURES = [round(0.4 * 1.1**k, 3) for k in range(30)]  # tried in the calibration
GRAIN = 0.1  # most noise on pictures in -1..1

# What the scorer's pictures need: the form of transformers' own image processors, read by core/scorer.py
PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,  # PIL's number for bilinear, which averages where it reduces
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}


def make_scorer(vocabulary_size: int, bos: int, eos: int, attention: str = "sdpa") -> n.Network:
    text = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=n.TEXT_WIDTH,
        intermediate_size=4 * n.TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=6,
        max_position_embeddings=n.TEXT_LENGTH,
        projection_dim=WIDTH,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    return CLIPModel._from_config(config, attn_implementation=attention)


@torch.no_grad()
def begin_local(vision: n.Network, generator: torch.Generator) -> None:
    """Starts a transformer as trained ones turn out: patches attend to those like and near them.

    Source: mimetic initialisation, Trockman & Kolter 2023, arXiv:2305.09828, with its constants.
    """
    heads, width = vision.config.num_attention_heads, vision.config.hidden_size
    side = vision.config.image_size // vision.config.patch_size
    angles = torch.arange(side)[:, None] / 10_000 ** (torch.arange(width // 4) / (width // 4))
    waves = torch.cat([angles.sin(), angles.cos()], 1)  # (side, width / 2)
    places = torch.cat([waves[:, None].expand(side, side, -1), waves[None].expand(side, side, -1)], 2)
    vision.embeddings.position_embedding.weight[1:] = places.flatten(0, 1)

    def near(identity: float, noise: float) -> tuple[Tensor, Tensor]:
        """Two matrices (width, width) whose product is about `identity` times I, largest parts first."""
        wanted = identity * torch.eye(width) + noise * torch.randn(width, width, generator=generator) / width**0.5
        u, size, v = torch.linalg.svd(wanted)
        return size.sqrt()[:, None] * u.T, size.sqrt()[:, None] * v

    for layer in vision.encoder.layers:
        attention = layer.self_attn
        pairs = [near(0.7, 0.7) for _ in range(heads)]
        attention.q_proj.weight.copy_(torch.cat([q[: width // heads] for q, _ in pairs]))
        attention.k_proj.weight.copy_(torch.cat([k[: width // heads] for _, k in pairs]))
        value, out = near(-0.4, 0.4)
        attention.v_proj.weight.copy_(value)
        attention.out_proj.weight.copy_(out.T)


class Learner(nn.Module):
    """The parts of a CLIPModel that learn here, and a head that tells each patch's thing and colour, thrown away after.

    A transformer learns from a picture's one caption slowly; from 64 answers a picture it learns fast.
    """

    def __init__(self, model: n.Network) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = model.vision_model, model.visual_projection
        self.text_projection, self.scale = model.text_projection, model.logit_scale
        self.patches = nn.Linear(WIDTH, len(THINGS) + 1 + len(COLOURS) + 1)

    def see(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, SIDE, SIDE) -> (B, WIDTH) and the patches' (B, n, WIDTH)."""
        seen = self.vision_model(pixel_values=pictures)
        return self.visual_projection(seen.pooler_output), seen.last_hidden_state[:, 1:]

    def teach(self, patches: Tensor, things: Tensor, colours: Tensor) -> Tensor:
        """The loss of the head. things, colours: (B, n), 0 where there is nothing."""
        thing, colour = self.patches(patches).float().split([len(THINGS) + 1, len(COLOURS) + 1], -1)
        return F.cross_entropy(thing.flatten(0, 1), things.flatten()) + F.cross_entropy(
            colour.flatten(0, 1), colours.flatten()
        )

    def give_to(self, model: n.Network) -> None:
        """Puts what was learnt into a model."""
        for name in ("vision_model", "visual_projection", "text_projection"):
            getattr(model, name).load_state_dict(getattr(self, name).state_dict())
        model.logit_scale.data.copy_(self.scale)


def whole_loss(images: Tensor, texts: Tensor, wrong: Tensor, ids: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """Each whole picture against the captions of its batch and against its own caption with one word exchanged."""
    loss, matched = contrast(images, texts, ids, scale)
    images, texts, wrong = (F.normalize(x.float(), dim=-1) for x in (images, texts, wrong))
    pair = torch.stack([(images * texts).sum(-1), (images * wrong).sum(-1)], 1) * scale.exp().clamp(max=100)
    return loss + F.cross_entropy(pair, torch.zeros(len(pair), dtype=torch.long, device=pair.device)), matched


def part_loss(images: Tensor, phrases: Tensor, wanted: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """Each part of a picture against every thing in every colour, and every scene with nothing there."""
    logits = F.normalize(images.float(), dim=-1) @ F.normalize(phrases.float(), dim=-1).T * scale.exp().clamp(max=100)
    logits = logits.masked_fill(~POSSIBLE.to(logits.device), -1e4)
    return F.cross_entropy(logits, wanted), (logits.argmax(1) == wanted).float().mean().item()


class Words:
    """What the text tower makes of captions and phrases. The tower is finished (the text stage trained it), so what
    stands here is computed once; only its projection into the scorer's space is learnt.
    """

    def __init__(self, text: n.Network, tokenizer: CLIPTokenizer, device: torch.device) -> None:
        self.text, self.device = text, device
        said = [phrase(i, np.random.default_rng(k)) for k in range(WORDINGS) for i in range(len(PHRASES))]
        ids = encode(tokenizer, said)[:, :PHRASE_TOKENS]
        self.phrases = torch.cat([self(part) for part in ids.split(512)]).view(WORDINGS, len(PHRASES), -1)

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """(B, tokens) -> (B, TEXT_WIDTH)."""
        with n.autocast(self.device):
            return self.text(input_ids=ids.to(self.device)).pooler_output.float()

    def wording(self, generator: torch.Generator) -> Tensor:
        """(phrases, TEXT_WIDTH), each in some wording."""
        which = torch.randint(WORDINGS, (len(PHRASES),), generator=generator)
        return self.phrases[which, torch.arange(len(PHRASES))]


def scorer_stage(run: Run) -> None:
    """Trains a picture tower on renders and parts of them, beside the text stage's tower; writes folder/scorer."""
    folder, device = run.folder, run.device
    tokenizer = make_tokenizer()
    examples = load_examples(folder, tokenizer)
    torch.manual_seed(5)
    attention = "eager" if device.type == "cpu" else "sdpa"  # its backward is far cheaper on a CPU
    model = make_scorer(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id, attention).to(device)
    body: n.Network = CLIPTextModel.from_pretrained(folder / "text")
    model.text_model.load_state_dict((getattr(body, "text_model", None) or body).state_dict())
    begin_local(model.vision_model, torch.Generator("cpu").manual_seed(5))
    words = Words(model.text_model.requires_grad_(False), tokenizer, device)
    learner = Learner(model).to(device)
    batch = min(run.batch_or(128, 1024), 2 * len(examples.whole))

    def draw(generator: torch.Generator) -> Batch:
        half = batch // 2
        whole = examples.whole[torch.randint(len(examples.whole), (half,), generator=generator)]
        parts = examples.draw_parts(half, generator)
        return {"whole": whole, "part": parts.scenes, "windows": parts.windows, "phrase": parts.phrases,
                "seeds": torch.randint(2**62, (half,), generator=generator)}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        whole, generator = part["whole"], torch.Generator("cpu").manual_seed(int(part["seeds"][0]))
        windows = torch.cat([torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(whole), 4), part["windows"]])
        pictures, *taught = cut(examples, torch.cat([whole, part["part"]]), windows, SIDE, SIDE // PATCH)
        grain = GRAIN * torch.rand(len(pictures), 1, 1, 1, generator=generator).square()
        pictures = pictures + grain * torch.randn(pictures.shape, generator=generator)
        ids = examples.ids[whole]
        read = words(torch.cat([ids, examples.wrong[whole]]))
        with n.autocast(device):
            images, patches = learner.see(pictures.to(device))
            said = learner.text_projection(torch.cat([read, words.wording(generator)]))
            telling = learner.teach(patches, *(rows.to(device) for rows in taught))
        texts, spoilt, phrases = said.split([len(ids), len(ids), len(PHRASES)])
        images, others = images.chunk(2)
        first, matched = whole_loss(images, texts, spoilt, ids.to(device), learner.scale)
        second, named = part_loss(others, phrases, part["phrase"].to(device), learner.scale)
        return first + second + telling, {"matched": matched, "named": named, "taught": telling.item()}

    ema, _ = fit("scorer", run, {"learner": learner}, {"learner": run.rate or RATE}, draw, loss_of)
    ema["learner"].give_to(model)  # type: ignore[operator]
    save_scorer(model, tokenizer, folder / "scorer")


def save_scorer(model: n.Network, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Writes a CLIP folder that plain transformers loads, and how to read its probabilities (see calibrate)."""
    model.save_pretrained(out)
    save_tokenizer(tokenizer, out)
    (out / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2) + "\n")
    (out / CALIBRATION).write_text(json.dumps({"temperature": 1.0, "neutral": NEUTRAL}, indent=2) + "\n")
    temperature, error, count = calibrate(Scorer.load(out), REGIONS)
    held = {"temperature": temperature, "neutral": NEUTRAL, "calibration error": error, "regions": count}
    (out / CALIBRATION).write_text(json.dumps(held, indent=2) + "\n")
    print(f"scorer: temperature {temperature}, calibration error {error:.3f} on {count} regions", flush=True)


def calibrate(scorer: Scorer, count: int) -> tuple[float, float, int]:
    """What to divide the scorer's logits by, so that its region scores are right as often as they say.

    From regions of unseen renders: half show their prompt's thing, a quarter another region's, a quarter nothing.
    -> (temperature of least log loss, expected calibration error in ten bins with it, regions).
    """
    rng = random.Random(9)
    logits, shown = [], []
    for i, scene in enumerate(unseen_scenes(count, first=1_000_000)):
        thing, bare = scene.things[0], i % 4 == 3
        x0, y0, x1, y1 = thing.box()
        wide, high = (edge * rng.uniform(0.0, 0.4) for edge in (x1 - x0, y1 - y0))  # a region is seldom a tight box
        box = (max(0.0, x0 - wide), max(0.0, y0 - high), min(1.0, x1 + wide), min(1.0, y1 + high))
        picture = np.array(paint(scene._replace(things=()) if bare else scene, 256)[0])
        own = article(f"{thing.colour} {thing.name}")
        others = [phrase(k) for k in rng.sample([k for k in range(NOTHING) if PHRASES[k][1] != thing.name], 2)]
        if i % 4 == 2:  # another region's thing has come here
            own, others[0] = others[0], own
        region = Region(name="region", prompt=own, box=box)
        logits.append(scorer.logits(scorer.part(picture, region), own, others))
        shown.append(i % 4 < 2)
    own_logits, truth = np.array(logits), np.array(shown)
    best = min(TEMPERATURES, key=lambda t: _log_loss(_own_share(own_logits / t), truth))
    return best, _calibration_error(_own_share(own_logits / best), truth), len(truth)


def _own_share(logits: np.ndarray) -> np.ndarray:
    """(N, prompts) logits, the own prompt first -> (N,) its softmax."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers[:, 0] / powers.sum(1)


def _log_loss(share: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(np.where(truth, share, 1 - share).clip(1e-6)).mean())


def _calibration_error(share: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of what was said from what was, over ten bins (Guo et al., arXiv:1706.04599)."""
    bins = (share * 10).clip(0, 9).astype(int)
    gaps = [abs(share[bins == k].mean() - truth[bins == k].mean()) * (bins == k).mean() for k in set(bins.tolist())]
    return float(sum(gaps))
