"""From the training folder to the weights folder: fp16 safetensors in diffusers' layout, and the card's facts."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from core.storybook import networks as n
from core.storybook.tokens import make_tokenizer, save_tokenizer

BUDGET = 40 * 2**20  # bytes, all files together
STAGES = ("autoencoder", "decoder", "text", "diffusion128", "diffusion256", "distil", "preview", "scorer", "judge")


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def processor() -> str:
    """The processor's name and its number of cores, for the card."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = f"{names[0]}, {len(names)} cores" if names else name
    return name


def export(folder: Path, out: Path, unet: str = "unet") -> None:
    """Writes what there is in the training folder to `out`; needs vae, unet, text_encoder, takes the rest if there.

    unet: the folder of the network; "lcm" is the distil stage's.
    Raises ValueError if the result is larger than BUDGET.
    """
    with tempfile.TemporaryDirectory() as held:
        new = Path(held)
        vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae")
        vae.register_to_config(force_upcast=False)
        tokenizer = make_tokenizer()
        pipeline: n.Network = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel.from_pretrained(folder / unet),
            scheduler=n.make_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.to(dtype=torch.float16)
        pipeline.save_pretrained(new, safe_serialization=True)
        forget_spacing(new / "scheduler" / "scheduler_config.json")
        save_tokenizer(tokenizer, new / "tokenizer")
        if (folder / "preview").exists():
            AutoencoderTiny.from_pretrained(folder / "preview").half().save_pretrained(new / "preview")
        if (folder / "scorer").exists():
            CLIPModel.from_pretrained(folder / "scorer").half().save_pretrained(new / "scorer")
            for path in (folder / "scorer").iterdir():
                if path.name not in ("model.safetensors", "config.json"):
                    shutil.copy(path, new / "scorer" / path.name)
        for name in ("text_encoder", "scorer"):
            # transformers takes a tower's precision from its config, diffusers' parts are float32 unless asked: agree
            path = new / name / "config.json"
            if path.exists():
                path.write_text(path.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
        for path in new.rglob("*.json"):  # where the training folder was is nobody's business
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if '"_name_or_path"' not in line))
        if (folder / "judge").exists():
            shutil.copytree(folder / "judge", new / "judge")
        (new / "training.json").write_text(json.dumps(training_facts(folder), indent=2) + "\n")
        if folder_bytes(new) > BUDGET:
            raise ValueError(f"the weights take {folder_bytes(new) / 2**20:.1f} MiB, more than {BUDGET / 2**20:.0f}")
        out.mkdir(parents=True, exist_ok=True)
        for path in new.iterdir():
            target = out / path.name
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(str(path), str(target))
    print(f"{out}: {folder_bytes(out) / 2**20:.1f} MiB")


def unpack(weights: Path, folder: Path) -> None:
    """Starts a training folder from shipped weights, in float32: the 256-pixel diffusion stage goes on from them.

    Optimiser states are not shipped, so the learning rate warms up anew.
    """
    kinds = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel,
             "preview": AutoencoderTiny}
    for part, kind in kinds.items():
        network: n.Network = kind.from_pretrained(weights / part)
        for name in (part, "text") if part == "text_encoder" else (part,):
            network.float().save_pretrained(folder / name)
    for part in ("judge", "scorer"):
        if (weights / part).exists():
            shutil.copytree(weights / part, folder / part, dirs_exist_ok=True)
    print(f"{folder}: next are --stage render, then --stage diffusion --size 256")


def forget_spacing(path: Path) -> None:
    """Leaves the spacing of timesteps to each sampler, as Stable Diffusion's own configuration does.

    DDIM's default, written out, would follow `EulerDiscreteScheduler.from_config` into another picture.
    """
    config = json.loads(path.read_text())
    config.pop("timestep_spacing", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def training_facts(folder: Path) -> dict[str, dict[str, float | str]]:
    """What each stage's checkpoint says it took: steps, samples, minutes, device."""
    facts: dict[str, dict[str, float | str]] = {}
    for stage in STAGES:
        path = folder / f"{stage}.pt"
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=False)
            device = processor() if state["device"] == "cpu" else state["device"]
            facts[stage] = {
                "steps": state["step"],
                "samples": state["samples"],
                "minutes": round(state["spent"] / 60, 1),
                "device": device,
            }
    return facts
