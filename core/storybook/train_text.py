"""The text stage: captions against latents, contrastively, before any diffusion. The text encoder matters most."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.storybook import networks as n
from core.storybook.loop import Batch, Run, fit
from core.storybook.tokens import encode, make_tokenizer, save_tokenizer
from core.storybook.train_autoencoder import encode_shards
from core.storybook.vocabulary import STYLES

RATE = 1e-3
BATCH = 256  # each caption must be told from the others of its batch (of its worker's part)
SHORT = 22  # tokens
HARD_WEIGHT = 0.4  # how often a scene of several things or in a style is drawn, a plain single thing being 1


class Tower(nn.Module):
    """Latents (B, 4, h, w) -> (B, TEXT_WIDTH): a small convolutional tower, thrown away after the stage."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, out in ((4, 64), (64, 128), (128, 192), (192, 256)):
            layers += [nn.Conv2d(wide, out, 3, 2 if wide > 4 else 1, 1), nn.GroupNorm(8, out), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(512, n.TEXT_WIDTH)

    def forward(self, latents: Tensor) -> Tensor:
        maps = self.body(latents)
        return self.head(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))


class Matcher(nn.Module):
    """The image tower, the text's projection and the temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()
        self.project = nn.Linear(n.TEXT_WIDTH, n.TEXT_WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.5))


def load_latents(paths: list[Path]) -> tuple[Tensor, list[str], Tensor]:
    """Shards of latents -> (latents (N, 4, h, w) float16, captions, labels (N, 32, 32) uint8)."""
    held = [torch.load(path, weights_only=True) for path in paths]
    captions = [caption for one in held for caption in one["captions"]]
    return torch.cat([one["latents"] for one in held]), captions, torch.cat([one["labels"] for one in held])


def importance(captions: list[str], labels: Tensor) -> Tensor:
    """How often each scene is drawn (N): single flat things first, they are what has to be learnt."""
    looks = [style for style in STYLES if style not in ("flat", "blurred background")]
    styled = {word for style in looks for word in style.split()} - {"in"}
    plain = torch.tensor([not styled & set(caption.replace(",", " ").split()) for caption in captions])
    single = torch.tensor([len(one.unique()) <= 2 for one in labels])
    return torch.where(plain & single, 1.0, HARD_WEIGHT)


def new_text_encoder() -> n.Network:
    tokenizer = make_tokenizer()
    return n.make_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)


def contrast(images: Tensor, texts: Tensor, ids: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """Symmetric cross-entropy (CLIP, arXiv:2103.00020) -> (loss, share of captions matched); equal captions match."""
    logits = F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T * scale.exp().clamp(max=100)
    same = (ids[:, None] == ids[None]).all(-1).float()
    target = same / same.sum(1, keepdim=True)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    return loss, same.gather(1, logits.argmax(1, keepdim=True)).mean().item()


def text_stage(run: Run) -> None:
    """Trains the text tower on the scenes of 128 pixels and writes folder/text (diffusers layout of text_encoder)."""
    folder, device = run.folder, run.device
    latents, captions, _ = load_latents(encode_shards(folder, 128, device))
    ids = encode(make_tokenizer(), captions)
    # a causal tower's pooled output does not depend on what follows the end: short captions, cut, cost half as much
    keep = [i for i, caption in enumerate(captions) if caption and int(ids[i, SHORT - 1]) == int(ids[i, -1])]
    latents, ids = latents[keep], ids[keep, :SHORT]
    torch.manual_seed(1)
    text, matcher = new_text_encoder().to(device), Matcher().to(device)
    batch = min(run.batch or BATCH, len(keep))

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.randperm(len(ids), generator=generator)[:batch]
        x = latents[chosen].float()
        return {"latents": x + 0.2 * torch.randn(x.shape, generator=generator), "ids": ids[chosen]}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        tokens = part["ids"].to(device)
        with n.autocast(device):
            images = matcher.tower(part["latents"].to(device))
            texts = matcher.project(text(tokens).pooler_output)
        loss, matched = contrast(images, texts, tokens, matcher.scale)
        return loss, {"matched": matched}

    modules = {"text": text, "matcher": matcher}
    ema, _ = fit("text", run, modules, dict.fromkeys(modules, run.rate or RATE), draw, loss_of)
    ema["text"].save_pretrained(folder / "text")  # type: ignore[operator]
    save_tokenizer(make_tokenizer(), folder / "tokenizer")
