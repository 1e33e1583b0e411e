"""SDXL with its refiner: one run, two networks, the latents of diffusers' two pipelines one after the other."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core import metadata
from core.__main__ import main
from core.checks import check_in
from core.engine import Engine
from core.errors import BadRequest, ModelError, OutOfMemory, TrajectoryError
from core.layout import predicted_evaluations
from core.models import kinds, needs, parts
from core.models.catalogue import Catalogue
from core.recorder import Recorder
from core.request import Done, Preview, Region, Request, Step
from core.samplers import SAMPLERS, resolve
from core.samplers.build import build
from core.trajectory import Past, Trajectory
from tests.lines import assert_one_line
from tests.loras import kohya
from tests.originals import PROMPT, ask, finish, make_pipeline, write_original
from ui import arrival, form

DOORS = ("folder", "file")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with SDXL and its refiner by both doors, and an SD 1."""
    folder = tmp_path_factory.mktemp("shelf")
    for k, kind in enumerate(("sdxl", "refiner")):
        pipe = make_pipeline(kind, seed=k)
        pipe.save_pretrained(folder / f"{kind}-folder")
        write_original(pipe, folder / f"{kind}-file.safetensors")
    write_original(make_pipeline("sd1"), folder / "sd1.safetensors")
    return folder


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return Engine(Catalogue(shelf), "cpu")


def refined(**changes: Any) -> Request:
    return ask(**{"model": "sdxl-file", "refiner": "refiner-file", "refiner_from": 0.5, **changes})


@pytest.fixture(scope="module")
def theirs(shelf: Path) -> tuple[Any, Any]:
    """diffusers' two pipelines."""
    base = diffusers.StableDiffusionXLPipeline.from_pretrained(shelf / "sdxl-folder", dtype=torch.float32)
    second = pipe_of(shelf)
    for pipe in (base, second):
        pipe.set_progress_bar_config(disable=True)
    return base, second


@pytest.mark.parametrize("negative", ["", "blurry"])
@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DDIM", "DPM++ 2M", "DPM++ 3M SDE", "UniPC", "DEIS"])
def test_the_latents_are_those_of_diffusers_two_pipelines(engine: Engine, theirs: tuple[Any, Any], sampler: str,
                                                          negative: str) -> None:
    base, second = theirs
    entry, schedule = resolve(sampler, "Automatic", 8)
    scheduler = build(entry, schedule, 8, base.scheduler.config, seed=3)
    for pipe in theirs:
        pipe.scheduler = type(scheduler).from_config(scheduler.config)
    generator = torch.Generator("cpu").manual_seed(3)
    common: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": negative or None, "num_inference_steps": 8,
                              "guidance_scale": 5.0, "output_type": "latent"}
    begun = base(**common, width=128, height=64, denoising_end=0.5, generator=generator).images
    wanted = second(**common, image=begun, denoising_start=0.5, generator=generator).images.numpy()
    request = refined(sampler=sampler, steps=8, negative_prompt=negative)
    done = finish(engine, request)
    assert np.abs(done.latents - wanted).max() < 1e-4 * wanted.std()
    assert done.evaluations == 16 and done.steps == 8
    alone = finish(engine, request.replace(refiner=""))
    assert np.abs(alone.latents - wanted).max() > 0.01 * wanted.std()


def test_both_doors_lead_to_the_same_latents(engine: Engine) -> None:
    found = [finish(engine, refined(model=f"sdxl-{door}", refiner=f"refiner-{door}")).latents for door in DOORS]
    assert np.array_equal(*found)


def test_it_takes_over_where_the_noise_has_come_down_so_far(engine: Engine) -> None:
    plain = finish(engine, ask("sdxl-file"))
    assert np.array_equal(finish(engine, refined(refiner_from=1.0)).latents, plain.latents)  # never
    model = engine.load("sdxl-file", "fp32")
    before = dict(model.unet.named_parameters())
    changed = [finish(engine, refined(refiner_from=share)).latents for share in (0.0, 0.3, 0.8)]
    assert len({latents.tobytes() for latents in (plain.latents, *changed)}) == 4
    assert engine.load("sdxl-file", "fp32") is model and dict(model.unet.named_parameters()).keys() == before.keys()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_goes_on_with_the_refiner_where_it_was(engine: Engine, sampler: str) -> None:
    request = refined(sampler=sampler, steps=6)
    *taken, done = engine.generate(request, Preview("none"))
    *plain, _ = engine.generate(request.replace(refiner=""), Preview("none"))
    assert np.isfinite(done.latents).all() and done.steps == 6
    assert [(s.timestep, s.evaluations) for s in taken] == [(s.timestep, s.evaluations) for s in plain]
    # A model is asked once what is the prompt and the negative one too; its refiner, which is told which, is twice.
    same = request.replace(negative_prompt=PROMPT)
    assert finish(engine, same).evaluations == predicted_evaluations(same, engine.catalogue.get("sdxl-file"))


@pytest.mark.parametrize("changes", [
    {}, {"refiner_from": 0.0}, {"refiner_from": 1.0}, {"batch": 2}, {"guidance": 1.0}, {"refiner": ""},
    {"model": "sdxl-folder", "schedule": "Karras", "steps": 7}, {"negative_prompt": "fog"},
    {"prompt": "[a boat:fog:0.5]", "negative_prompt": "fog"}, {"prompt": "a boat AND fog", "negative_prompt": "fog"},
    {"prompt": "the sea", "regions": (Region(name="a", prompt=PROMPT, box=(0, 0, 0.5, 1)),), "bootstrap": 0.5,
     "crop_after": 0.5}, {"width": 192, "height": 128, "panorama": "smooth", "stride": 64}])
def test_what_equal_prompts_cost_is_predicted(engine: Engine, changes: dict[str, Any]) -> None:
    request = refined(**{"negative_prompt": PROMPT, **changes})
    assert finish(engine, request).evaluations == predicted_evaluations(request, engine.catalogue.get(request.model))


def test_regions_panoramas_and_batches_are_refined_too(engine: Engine) -> None:
    sea = Region(name="sea", prompt="the sea", box=(0, 0.5, 1, 1), negative_prompt="sails")
    boat = Region(name="boat", prompt="a boat", box=(0.2, 0.2, 0.6, 0.6))
    request = refined(width=128, height=128, regions=(sea, boat), bootstrap=0.5, refiner_from=0.2)
    done = finish(engine, request)
    assert np.isfinite(done.latents).all()
    assert not np.allclose(done.latents, finish(engine, request.replace(refiner="")).latents)
    wide = finish(engine, refined(width=192, height=128, panorama="smooth", stride=64, steps=2))
    assert wide.pictures[0].shape == (128, 192, 3)
    several = finish(engine, refined(batch=2))
    assert np.allclose(several.latents[:1], finish(engine, refined()).latents, atol=1e-4)


# -- kept runs


def run(engine: Engine, request: Request, path: Path, stop: int = 99, past: Past | None = None) -> Done:
    recorder = Recorder(path)
    done = None
    for event in engine.generate(request, Preview("none"), past=past):
        if isinstance(event, Step):
            recorder.add(event)
            if event.index + 1 == stop:
                break
        else:
            done = event
    recorder.close()
    return done or Done((), np.zeros(0), 0, 0, 0, True, "")


@pytest.mark.parametrize("stop", [2, 6])  # before it takes over, and after
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a"])
def test_a_run_that_is_resumed_ends_in_the_same_bits(engine: Engine, tmp_path: Path, sampler: str, stop: int) -> None:
    request = refined(sampler=sampler, steps=8)
    whole = run(engine, request, tmp_path / "whole.safetensors")
    run(engine, request, tmp_path / "part.safetensors", stop)
    past = Past.resume(Trajectory(tmp_path / "part.safetensors"))
    assert past.request.refiner == "refiner-file" and past.run.outline.refiner
    done = run(engine, past.request, tmp_path / "end.safetensors", past=past)
    assert np.array_equal(done.latents, whole.latents) and done.evaluations == whole.evaluations
    fork = Past.fork(Trajectory(tmp_path / "whole.safetensors"), stop, {})
    assert np.array_equal(run(engine, fork.request, tmp_path / "fork.safetensors", past=fork).latents, whole.latents)


def test_a_fork_may_leave_the_refiner_or_take_one(engine: Engine, tmp_path: Path) -> None:
    run(engine, refined(steps=8), tmp_path / "a.safetensors")
    plain = finish(engine, ask("sdxl-file", steps=8))
    past = Past.fork(Trajectory(tmp_path / "a.safetensors"), 2, {"refiner": ""})
    left = run(engine, past.request, tmp_path / "b.safetensors", past=past)
    assert np.allclose(left.latents, plain.latents, atol=1e-4)
    assert Trajectory(tmp_path / "b.safetensors").outline.refiner == ""
    past = Past.fork(Trajectory(tmp_path / "b.safetensors"), 2, {"refiner": "refiner-file", "refiner_from": 0.5})
    again = run(engine, past.request, tmp_path / "c.safetensors", past=past)
    assert np.allclose(again.latents, finish(engine, refined(steps=8)).latents, atol=1e-4)


def test_a_run_whose_refiner_has_other_weights_now_is_not_resumed(shelf: Path, tmp_path: Path) -> None:
    for name in ("sdxl-file", "refiner-file"):
        (tmp_path / f"{name}.safetensors").write_bytes((shelf / f"{name}.safetensors").read_bytes())
    engine = Engine(Catalogue(tmp_path), "cpu")
    run(engine, refined(), tmp_path / "run.safetensors.part", 2)
    write_original(make_pipeline("refiner", seed=9), tmp_path / "refiner-file.safetensors")
    past = Past.resume(Trajectory(tmp_path / "run.safetensors.part"))
    with pytest.raises(TrajectoryError, match="other weights than those of refiner-file") as told:
        finish_past(engine, past)
    assert_one_line(told.value)


def finish_past(engine: Engine, past: Past) -> Any:
    *_, done = engine.generate(past.request, Preview("none"), past=past)
    return done


# -- what is said of it


def test_what_is_said_of_it_without_loading_it(shelf: Path) -> None:
    for door in DOORS:
        info = Catalogue(shelf).get(f"refiner-{door}")
        assert info.family == "refiner" and info.is_refiner and info.kind == "Refiner of Stable Diffusion XL"
        need = needs.weights(info, "fp32")
        unet, text = (sum(p.numel() * 4 for p in network.parameters())
                      for network in (pipe_of(shelf).unet, pipe_of(shelf).text_encoder_2))
        assert need == (unet, 0, text)


def pipe_of(shelf: Path) -> Any:
    return diffusers.StableDiffusionXLImg2ImgPipeline.from_pretrained(shelf / "refiner-folder", dtype=torch.float32)


@pytest.mark.parametrize("changes, line, field", [
    ({"model": "refiner-file", "refiner": ""}, "only ends what another model began", "model"),
    ({"model": "sd1"}, "sd1 is Stable Diffusion 1", "refiner"),
    ({"model": "storybook", "precision": "auto"}, "storybook is", "refiner"),
    ({"refiner": "sdxl-file"}, "is no refiner, but a model by itself", "refiner"),
    ({"refiner": "refiner-fil"}, "Did you mean", "refiner")])
def test_what_cannot_go_together_is_one_line_before_the_run(engine: Engine, shelf: Path, changes: dict[str, Any],
                                                            line: str, field: str) -> None:
    for attempt in (lambda: check_in(refined(**changes), Catalogue(shelf)),
                    lambda: finish(engine, refined(**changes))):
        with pytest.raises(BadRequest, match=line) as told:
            attempt()
        assert told.value.field == field
        assert_one_line(told.value)


@pytest.mark.parametrize("values", [{"refiner": 3}, {"refiner": "a\nb"}, {"refiner_from": 1.5}, {"refiner_from": "x"}])
def test_a_refiner_that_means_nothing_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as told:
        Request(**values)
    assert told.value.field == next(iter(values))
    assert_one_line(told.value)


def test_a_refiner_that_predicts_otherwise_is_refused(shelf: Path, tmp_path: Path) -> None:
    for name in ("sdxl-file", "refiner-file"):
        (tmp_path / f"{name}.safetensors").symlink_to(shelf / f"{name}.safetensors")
    (tmp_path / "refiner-file.json").write_text('{"prediction_type": "v_prediction"}')
    with pytest.raises(BadRequest, match="predicts v_prediction and sdxl-file epsilon") as told:
        check_in(refined(), Catalogue(tmp_path, also=[shelf]))
    assert_one_line(told.value)


def test_a_pipeline_from_picture_to_picture_with_two_encoders_is_no_refiner(shelf: Path, tmp_path: Path) -> None:
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(shelf / "sdxl-folder")
    diffusers.StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False).save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="no refiner") as told:
        Catalogue(tmp_path).get("m")
    assert_one_line(told.value)


def test_a_refiner_whose_network_takes_other_numbers_is_refused(shelf: Path, tmp_path: Path) -> None:
    weights = load_file(shelf / "refiner-file.safetensors")
    weights["model.diffusion_model.label_emb.0.0.weight"] = torch.zeros(256, 7)
    save_file(weights, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match="of a build that is not known") as told:
        Catalogue(tmp_path).get("mine")
    assert_one_line(told.value)
    assert kinds.KINDS["refiner"].family == "refiner"


def test_loras_and_memory_are_noted(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in shelf.iterdir():
        (tmp_path / path.name).symlink_to(path)
    kohya(make_pipeline("sdxl"), tmp_path / "lora" / "style.safetensors")
    catalogue = Catalogue(tmp_path, also=[shelf])
    request = refined(prompt=f"{PROMPT} <lora:style:1>")
    region = Region(name="a", prompt="a boat <lora:style:1>", box=(0, 0, 0.5, 1))
    for asked, field in ((request, "prompt"), (request.replace(regions=(region,)), "prompt"),
                         (refined(regions=(region,)), "regions")):  # beside what names them, and said once
        told = [note.field for note in check_in(asked, catalogue) if "LoRAs change the model alone" in note.text]
        assert told == [field]
    for plain in (request.replace(refiner=""), refined()):
        assert not [note for note in check_in(plain, catalogue) if "LoRAs" in note.text]
    engine = Engine(catalogue, "cpu")
    assert not np.array_equal(finish(engine, request).latents, finish(engine, refined()).latents)
    whole = finish(engine, request.replace(refiner_from=0.0)).latents  # the refiner alone: the LoRA does nothing
    assert np.array_equal(whole, finish(engine, refined(refiner_from=0.0)).latents)
    monkeypatch.setattr("core.checks._size", lambda *_: None)
    monkeypatch.setattr("core.checks.psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**20}))
    notes = [note.text for note in check_in(refined(), catalogue) if note.field == "refiner"]
    assert len(notes) == 1 and "it may not fit" in notes[0]


def test_a_refiner_that_does_not_fit_beside_the_model_is_one_line(shelf: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Catalogue(shelf), "cpu")
    plain = finish(engine, ask("sdxl-file"))
    monkeypatch.setattr(parts, "free_memory", lambda device: 2**20)
    with pytest.raises(OutOfMemory, match="refiner-file needs about") as told:
        finish(engine, refined())
    assert_one_line(told.value)
    assert np.array_equal(finish(engine, ask("sdxl-file")).latents, plain.latents)


def test_the_model_gives_way_to_its_refiner_where_the_memory_is_short(shelf: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Catalogue(shelf), "cpu")
    whole = finish(engine, refined())
    other = Engine(Catalogue(shelf), "cpu")
    model = other.load("sdxl-file", "fp32")
    model.thrift.further = ["model"]  # as on a GPU
    left = {"none": 0, "model": 2**40}
    monkeypatch.setattr(parts, "free_memory", lambda device: left[model.thrift.offload])
    done = finish(other, refined())
    assert model.thrift.offload == "model" and "networks that wait" in done.note
    assert np.array_equal(done.latents, whole.latents)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_an_offloaded_refiner_makes_the_same_picture_to_the_bit(shelf: Path, offload: str,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    plain = finish(Engine(Catalogue(shelf), "cpu"), refined())
    monkeypatch.setattr("core.engine.verify", lambda *_, **__: offload)
    assert np.array_equal(finish(Engine(Catalogue(shelf), "cpu"), refined()).latents, plain.latents)


def test_another_model_takes_the_refiner_out_of_memory(shelf: Path) -> None:
    engine = Engine(Catalogue(shelf), "cpu")
    finish(engine, refined(steps=2))
    assert engine._refiner is not None
    engine.load("sd1", "fp32")
    gc.collect()
    assert engine._refiner is None


# -- metadata and command line


def test_its_name_and_place_go_through_the_pictures_text() -> None:
    request = refined(refiner="XL/sd_xl_refiner_1.0", refiner_from=0.75)
    text = metadata.to_text(request)
    assert ", Refiner: sd_xl_refiner_1.0, Refiner switch at: 0.75, " in text
    assert "Refiner" not in metadata.to_text(Request(prompt="a"))
    read = metadata.from_text(text)
    assert read["refiner"] == "sd_xl_refiner_1.0" and read["refiner_from"] == 0.75
    theirs = ("a boat\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 1024x1024, Model: sd_xl_base_1.0, "
              "Refiner: sd_xl_refiner_1.0 [7440042bbd], Refiner switch at: 0.8, Version: v1.7.0")
    read = metadata.from_text(theirs)
    assert (read["refiner"], read["refiner_from"]) == ("sd_xl_refiner_1.0", 0.8)


def test_the_command_line_refines(shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, common = tmp_path / "a.png", ["--models-dir", str(shelf), "--device", "cpu"]
    asked = ["generate", "a boat", "--model", "sdxl-file", "--out", str(out), "--steps", "3", "--width", "128",
             "--height", "64", *common]
    assert main([*asked, "--refiner", "refiner-file", "--refiner-from", "0.4"]) == 0
    found = metadata.read_png(out)
    assert (found.refiner, found.refiner_from) == ("refiner-file", 0.4)
    assert main([*asked, "--refiner", "sd1"]) == 2
    assert "is no refiner" in capsys.readouterr().err
    assert main([*asked[:3], "refiner-file", *asked[4:]]) == 2
    assert "only ends what another model began" in capsys.readouterr().err


def test_a_picture_brings_its_refiner_to_the_form_where_it_is_here(tmp_path: Path) -> None:
    metadata.save_png(np.zeros((64, 64, 3), np.uint8), tmp_path / "a.png", refined(refiner_from=0.7))
    found = arrival.read(tmp_path / "a.png", "a.png")
    values = form.from_request(Request())
    here = arrival.filled(values, found, ["sdxl-file", "XL/refiner-file"])
    assert (here["refiner"], here["refiner_from"]) == ("XL/refiner-file", "0.7")
    assert arrival.card(found, "a.png", ["sdxl-file", "refiner-file"], "storybook")["lines"] == []
    gone = arrival.filled(here, found, ["sdxl-file"])
    assert gone["refiner"] == ""
    assert arrival.card(found, "a.png", ["sdxl-file"], "storybook")["lines"] == [
        "Its refiner, refiner-file, is not here: none is taken."]
    metadata.save_png(np.zeros((64, 64, 3), np.uint8), tmp_path / "b.png", refined(refiner=""))
    plain = arrival.read(tmp_path / "b.png", "b.png")
    assert arrival.filled(here, plain, ["sdxl-file", "refiner-file"])["refiner"] == ""
