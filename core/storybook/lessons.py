"""What the diffusion stage learns from: scenes with their words, and what the region views of MultiDiffusion see.

A region asks for one thing and sees two kinds of canvas that no rendered scene is like. While bootstrapping, all but
its mask is a constant colour: some scenes of one thing are shown that way, hidden but for the thing's surroundings,
while the whole scene stays what is to be predicted. After that, it sees what other prompts have made around its thing:
so some things are cut out and set into another scene, whose words are not said.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from core.storybook import networks as n
from core.storybook.loop import Batch, Run
from core.storybook.tokens import encode, make_tokenizer
from core.storybook.train_autoencoder import encode_shards
from core.storybook.train_text import importance, load_latents

JUNK_SHARE = 0.05  # of captions get a word the model cannot know, so that unknown words do no harm
SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za sh tr bl".split()
HIDDEN_SHARE = 0.3  # of the scenes of one thing are seen as while bootstrapping
HIDDEN_FROM = 650  # timestep; only the noisy steps are bootstrapped
MOVED_SHARE = 0.15  # of the scenes of one thing lend it to another scene
MARGIN = 0.4  # of the thing's longer side, the most that a box leaves free beside it
COLOURS = 200


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


def extents(labels: Tensor) -> Tensor:
    """labels: (N, h, w), 0 where nothing is -> (N, 4): left, top, right and bottom of all that is there, in 0..1."""
    edges = []
    for along in (1, 2):  # over rows: which columns are used, then over columns
        used = (labels > 0).any(along).float()
        first, last = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
        edges.append(torch.stack([first, last], 1) / used.shape[1])
    (left, right), (top, bottom) = edges[0].T, edges[1].T
    return torch.stack([left, top, right, bottom], 1)


def inside(boxes: Tensor, side: int) -> Tensor:
    """boxes: (B, 4) as `extents` has them -> (B, 1, side, side), 1 in the cells whose middle a box holds, else 0."""
    middles = (torch.arange(side) + 0.5) / side
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    columns, rows = (middles > left) & (middles < right), (middles > top) & (middles < bottom)
    return (rows[:, :, None] & columns[:, None, :])[:, None].float()


def constant_colours(vae: n.Network, count: int = COLOURS) -> Tensor:
    """(count, 4): latents of constant colours."""
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator("cpu").manual_seed(3)) * 2 - 1
    with torch.no_grad():
        means = vae.encode(colours.expand(count, 3, 64, 64).to(vae.device)).latent_dist.mean
    return (means[:, :, 4, 4].float() * vae.config.scaling_factor).cpu()  # the middle: far from the border


class Lessons:
    """The latents, tokens and labels of one size of canvas, and how batches are drawn of them."""

    def __init__(self, run: Run, size: int, shards: int | None = None) -> None:
        self.latents, captions, self.labels = load_latents(encode_shards(run.folder, size, run.device, shards))
        self.ids = encode(make_tokenizer(), add_junk(captions, torch.Generator("cpu").manual_seed(2)))
        self.share = importance(captions, self.labels)
        self.single = torch.tensor([len(one.unique()) == 2 for one in self.labels])  # nothing, and one thing
        self.boxes = extents(self.labels)
        self.colours = constant_colours(AutoencoderKL.from_pretrained(run.folder / "vae").to(run.device).eval())
        self.batch = run.batch_or(32 if size == 128 else 16, 512)

    def draw(self, generator: torch.Generator) -> Batch:
        """x0: what is to be predicted, (B, 4, h, w); shown: what is noised; with noise, t, ids and labels."""
        def random(*shape: int) -> Tensor:
            return torch.rand(self.batch, *shape, generator=generator)

        chosen = torch.multinomial(self.share, self.batch, replacement=True, generator=generator)
        others = torch.randint(len(self.latents), (self.batch,), generator=generator)
        x0 = self.latents[chosen].float()
        noise = torch.randn(x0.shape, generator=generator)
        t = (random().pow(0.75) * 1000).long()  # more of the noisy steps
        single, lot, early = self.single[chosen], random(), random()
        hidden = single & (lot < HIDDEN_SHARE)
        t = torch.where(hidden, (HIDDEN_FROM + (1000 - HIDDEN_FROM) * early).long(), t)
        colours = self.colours[torch.randint(len(self.colours), (self.batch,), generator=generator)]
        moved = single & (lot > 1 - MOVED_SHARE)
        x0, labels = moved_to(x0, self.labels[chosen], self.latents[others].float(), self.labels[others], moved)
        shown = hide(x0, self.boxes[chosen], random(4), colours, hidden)
        return {"x0": x0, "shown": shown, "noise": noise, "t": t, "ids": self.ids[chosen], "labels": labels}


def hide(x0: Tensor, boxes: Tensor, margins: Tensor, colours: Tensor, which: Tensor) -> Tensor:
    """x0 (B, 4, h, w), where `which` (B) says so with a constant colour (B, 4) outside of the thing's box.

    boxes: (B, 4), how far the things reach. margins: (B, 4) in 0..1, how much more is seen on each side.
    """
    longer = torch.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    outwards = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    seen = inside(boxes + MARGIN * longer[:, None] * margins * outwards, x0.shape[-1])
    seen = torch.where(which[:, None, None, None], seen, 1.0)
    return seen * x0 + (1 - seen) * colours[:, :, None, None]


def moved_to(x0: Tensor, labels: Tensor, others: Tensor, their_labels: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (B, 4, h, w) and labels (B, 32, 32), where `which` (B) says so with only the thing, set into `others`.

    What is beside the thing by a cell of the labels comes along: what a latent cell shows reaches over its edge.
    """
    thing = F.max_pool2d(F.max_pool2d((labels > 0).float()[:, None], 3, 1, 1), labels.shape[-1] // x0.shape[-1])
    keep = torch.where(which[:, None, None, None], thing, 1.0)
    named = torch.where(which[:, None, None] & (labels == 0), their_labels, labels)
    return keep * x0 + (1 - keep) * others, named
