"""The scorer stage: a small CLIP (text and picture towers) that says how well a picture fits a prompt."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig

from core.storybook import networks as n
from core.storybook.data import read_shard, shards
from core.storybook.loop import Batch, fit
from core.storybook.tokens import encode, make_tokenizer, save_tokenizer
from core.storybook.train_text import contrast

SIDE = 128  # pixels a picture is reduced to
RATE = 4e-4
WIDTH = 128

# what the scorer's pictures need, done by numpy and PIL alone: see score.py
PREPROCESSING = {"size": SIDE, "resample": "box", "rescale": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def make_scorer(vocabulary_size: int, bos: int, eos: int) -> n.Network:
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
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=16,
        projection_dim=WIDTH,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH))


def scorer_stage(folder: Path, minutes: float, device: torch.device, batch: int = 0, steps: int | None = None) -> None:
    """Trains on renders, its text tower starting from the diffusion model's, and writes folder/scorer."""
    tokenizer = make_tokenizer()
    pictures, captions = [], []
    for path in shards(folder, 128)[:60]:
        scenes = read_shard(path)
        keep = [i for i, caption in enumerate(scenes.captions) if caption]
        pictures.append(torch.from_numpy(scenes.pictures[keep]))
        captions += [scenes.captions[i] for i in keep]
    for path in shards(folder, 256)[:20]:
        scenes = read_shard(path)
        keep = [i for i, caption in enumerate(scenes.captions) if caption]
        part = torch.from_numpy(scenes.pictures[keep]).view(-1, SIDE, 2, SIDE, 2, 3).float().mean((2, 4))
        pictures.append(part.round().byte())
        captions += [scenes.captions[i] for i in keep]
    seen, ids = torch.cat(pictures), encode(tokenizer, captions)
    torch.manual_seed(5)
    model = make_scorer(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id).to(device)
    batch = min(batch or (128 if device.type == "cpu" else 512), len(ids))

    def start() -> None:
        for name in ("text_encoder", "text"):
            if (folder / name).exists():
                body: n.Network = CLIPTextModel.from_pretrained(folder / name)
                model.text_model.load_state_dict((getattr(body, "text_model", None) or body).state_dict())
                return

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.randperm(len(ids), generator=generator)[:batch]
        return {"pictures": seen[chosen], "ids": ids[chosen]}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        tokens = part["ids"].to(device)
        with n.autocast(device):
            out = model(input_ids=tokens, pixel_values=n.to_unit(part["pictures"].to(device)).contiguous())
        loss, matched = contrast(out.image_embeds, out.text_embeds, tokens, model.logit_scale)
        return loss, {"matched": matched}

    ema, _ = fit(
        "scorer",
        folder / "scorer.pt",
        {"scorer": model},
        {"scorer": RATE},
        draw,
        loss_of,
        batch=batch,
        minutes=minutes,
        steps=steps,
        start=start,
        device=device,
    )
    ema["scorer"].save_pretrained(folder / "scorer")  # type: ignore[operator]
    save_tokenizer(tokenizer, folder / "scorer")
    (folder / "scorer" / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING, indent=2) + "\n")
