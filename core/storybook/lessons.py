"""What the diffusion stage learns from: scenes and their words, a batch at a time."""

from __future__ import annotations

import torch

from core.storybook.loop import Batch, Run
from core.storybook.tokens import encode, make_tokenizer
from core.storybook.train_autoencoder import encode_shards
from core.storybook.train_text import importance, load_latents

JUNK_SHARE = 0.05  # of captions get a word the model cannot know, so that unknown words do no harm
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za sh tr bl".split()


def add_junk(captions: list[str], generator: torch.Generator) -> list[str]:
    """Captions, some with an invented word at a random place."""
    result = []
    for caption in captions:
        if float(torch.rand((), generator=generator)) < JUNK_SHARE:
            picks = torch.randint(len(SYLLABLES), (3,), generator=generator).tolist()
            word, parts = "".join(SYLLABLES[i] for i in picks), caption.split()
            parts.insert(int(torch.randint(len(parts) + 1, (), generator=generator)), word)
            caption = " ".join(parts)
        result.append(caption)
    return result


def noisy_steps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps (count): more of the noisy ones, where it is decided what the picture shows."""
    return (torch.rand(count, generator=generator).pow(0.75) * 1000).long()


class Lessons:
    """The latents, tokens and labels of one size of canvas, and how batches are drawn of them."""

    def __init__(self, run: Run, size: int, shards: int | None = None) -> None:
        self.latents, captions, self.labels = load_latents(encode_shards(run.folder, size, run.device, shards))
        self.ids = encode(make_tokenizer(), add_junk(captions, torch.Generator("cpu").manual_seed(2)))
        self.share = importance(captions, self.labels)
        self.batch = run.batch_or(32 if size == 128 else 16, 512)

    def draw(self, generator: torch.Generator) -> Batch:
        """x0 and noise, (B, 4, h, w), timesteps t (B), ids (B, tokens) and labels (B, 32, 32)."""
        chosen = torch.multinomial(self.share, self.batch, replacement=True, generator=generator)
        x0 = self.latents[chosen].float()
        noise = torch.randn(x0.shape, generator=generator)
        t = noisy_steps(self.batch, generator)
        return {"x0": x0, "noise": noise, "t": t, "ids": self.ids[chosen], "labels": self.labels[chosen]}
