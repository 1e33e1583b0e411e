"""LoRAs and textual inversions on disk and in prompts: names, families, words, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.checks import check
from core.engine import Engine
from core.errors import BadRequest
from core.layout import loras_of
from core.models import convert
from core.models.catalogue import Catalogue
from core.models.counters import counter_for
from core.models.extras import Extras
from core.prompts.composition import compose
from core.prompts.networks import Lora, joined, loras_in
from core.request import Region, Request
from tests.lines import assert_one_line
from tests.loras import embedding, frequencies, kohya
from tests.originals import PROMPT, ask, finish, make_pipeline

BOX = (0, 0, 0.5, 1)


# -- the grammar: Automatic1111's wiki ("Extra networks") and extensions-builtin/Lora/extra_networks_lora.py


@pytest.mark.parametrize("prompt, text, loras", [
    ("a boat", "a boat", []), ("a <lora:x:0.8> boat", "a  boat", [("x", 0.8, 0.8)]),
    ("<lora:x>a", "a", [("x", 1, 1)]), ("<lora:b:1><lora:a:.5:-2>", "", [("a", 0.5, -2), ("b", 1, 1)]),
    ("<lyco:x y/z.v2:0.5>", "", [("x y/z.v2", 0.5, 0.5)]), ("<lora:x:unet=0.3>", "", [("x", 1, 0.3)]),
    ("<lora:x:te=0.2>", "", [("x", 0.2, 0.2)]), ("<LoRA: x : 0.2 : unet=1>", "", [("x", 0.2, 1)]),
    ("[a:b<lora:x:1>:0.5]", "b", [("x", 1, 1)]), ("(a<lora:x:1>:1.2)", "(a:1.2)", [("x", 1, 1)]),
    ("a < b <3 <word:1>", "a < b <3 <word:1>", [])])
def test_a_tag_names_a_lora_and_is_no_part_of_the_text(prompt: str, text: str, loras: list[Any]) -> None:
    assert compose(prompt).at(19, 20)[0].text == text
    assert loras_in(prompt) == tuple(Lora(*one) for one in loras)


def test_a_region_has_the_whole_pictures_loras_and_its_own_which_win() -> None:
    request = Request(prompt="a <lora:x:0.5><lora:y:1>", join_prompts=True, regions=(
        Region(name="a", prompt="b <lora:x:0><lora:z:2>", box=BOX), Region(name="b", prompt="c", box=BOX)))
    assert loras_of(request, 0) == loras_of(request, 2) == (Lora("x", 0.5, 0.5), Lora("y", 1, 1))
    assert loras_of(request, 1) == (Lora("y", 1, 1), Lora("z", 2, 2))
    assert joined((Lora("x", 0, 0),), ()) == ()
    check(request.replace(prompt="a", regions=(Region(name="a", prompt="b", box=BOX),)),
          Catalogue().get("storybook"))  # joined prompts name nothing twice


# -- files


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, checkpoints: Path) -> Path:
    """A models folder with sd1 and sdxl, and what people put beside them."""
    folder = tmp_path_factory.mktemp("shelf")
    for family in ("sd1", "sdxl"):
        (folder / f"{family}.safetensors").write_bytes((checkpoints / f"{family}-file.safetensors").read_bytes())
        pipe = make_pipeline(family)
        kohya(pipe, folder / f"Lora/{family}-ink.safetensors", rank=1, notes={
            "ss_base_model_version": {"sd1": "sd_v1", "sdxl": "sdxl_base_v1-0"}[family], "ss_output_name": "INK",
            "modelspec.trigger_phrase": "inkstyle, <lora:evil:1>", **frequencies(line_art=3, bold_ink=9)})
    kohya(make_pipeline("sd1"), folder / "loras/people/anna.safetensors", rank=1, notes={"ss_output_name": "ANNA"})
    kohya(make_pipeline("sd1"), folder / "Lora/twice.safetensors", rank=1)
    kohya(make_pipeline("sd1"), folder / "loras/twice.safetensors", rank=1)
    whole = (folder / "Lora/sd1-ink.safetensors").read_bytes()
    (folder / "Lora/torn.safetensors").write_bytes(whole[:-100])
    (folder / "Lora/empty.safetensors").write_bytes(b"")
    (folder / "Lora/old.pt").write_bytes(b"\x80")
    (folder / "Lora/anna.ckpt").write_bytes(b"\x80")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.safetensors"
    elsewhere.write_bytes(whole)
    (folder / "Lora/link.safetensors").symlink_to(elsewhere)
    save_file({"x.weight": torch.zeros(2, 2)}, folder / "Lora/nolora.safetensors")
    return folder


@pytest.mark.parametrize("tag, says", [
    ("<lora:sd1-inc:1>", "No LoRA named 'sd1-inc'. Did you mean 'sd1-ink'"), ("<lora:torn:1>", "torn.*cut off"),
    ("<lora:empty:1>", "is empty"), ("<lora:old:1>", "pickled"), ("<lora:link:1>", "leads out"),
    ("<lora:nolora:1>", "is no LoRA"), ("<lora:twice:1>", "There are 2 LoRAs.*<lora:Lora/twice:1> or"),
    ("<lora:INK:1>", "There are 2 LoRAs named 'INK'"), ("<lora:people/anna:1><lora:anna:1>", "pickled"),
    ("<lora:sdxl-ink:1>", "made for Stable Diffusion XL, and sd1 is Stable Diffusion 1"),
    ("<lora:people/anna:1><lora:ANNA:1>", "are the same LoRA")])
@pytest.mark.parametrize("where", ["prompt", "regions"])
def test_what_cannot_be_used_is_one_line_at_its_field_before_a_run(
        shelf: Path, where: str, tag: str, says: str) -> None:
    region = Region(name="left", prompt="a" + tag, box=BOX)
    request = ask("sd1", prompt=tag) if where == "prompt" else ask("sd1", regions=(region,))
    with pytest.raises(BadRequest, match=says) as told:
        check(request, Catalogue(shelf).get("sd1"), Extras(shelf))
    assert told.value.field == where
    assert_one_line(told.value, longest=400)


def test_names_families_and_words_are_listed_without_torch(shelf: Path) -> None:
    rows = {row["name"]: row for row in Extras(shelf).rows(Catalogue(shelf).get("sdxl"))}
    assert {"sd1-ink", "sdxl-ink", "people/anna", "Lora/twice", "loras/twice", "torn", "link"} <= set(rows)
    found = rows["sdxl-ink"]
    assert (found["family"], found["fits"], found["alias"]) == ("Stable Diffusion XL", True, "INK")
    assert found["triggers"] == ["inkstyle", "lora:evil:1", "bold ink", "line art"]
    assert rows["sd1-ink"]["family"] == "Stable Diffusion 1" and rows["sd1-ink"]["fits"] is False
    assert "cut off" in rows["torn"]["error"] and str(shelf) not in rows["torn"]["error"]
    assert Extras(shelf).lora("people/anna").path.endswith("people/anna.safetensors")
    ran = subprocess.run([sys.executable, "-c", "import sys; from core.__main__ import main; main(sys.argv[1:]); "
                          "print('torch' in sys.modules)", "loras", "--models-dir", str(shelf)],
                         capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert "<lora:sdxl-ink:1>" in ran.stdout and ran.stdout.split()[-1] == "False"


def test_notes_that_mean_nothing_are_passed_over(tmp_path: Path) -> None:
    for k, notes in enumerate(({"ss_tag_frequency": "{" * 9999}, {"ss_tag_frequency": json.dumps({"a": {"b": "c"}})},
                               {"modelspec.trigger_phrase": "x" * 10_000})):
        path = kohya(make_pipeline("sd1"), tmp_path / f"lora/{k}.safetensors", rank=1, text=False, notes=notes)
        assert Extras(tmp_path).lora(path.stem).triggers == ()


# -- textual inversions


@pytest.fixture(scope="module")
def words(checkpoints: Path) -> dict[str, Any]:
    """diffusers' pipelines, and textual inversions beside their checkpoints."""
    folder = checkpoints / "embeddings"
    embedding(folder / "bad-hands.safetensors", [64], vectors=3)
    embedding(folder / "style2.safetensors", [64], vectors=1, layout="<style2>", seed=1)
    embedding(folder / "xl-look.safetensors", [64, 128], vectors=2, seed=2)
    found = {}
    for family, kind in (("sd1", diffusers.StableDiffusionPipeline), ("sdxl", diffusers.StableDiffusionXLPipeline)):
        pipe = kind.from_pretrained(checkpoints / f"{family}-folder", dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        found[family] = pipe
    found["sd1"].load_textual_inversion(str(folder / "bad-hands.safetensors"), token="<bad>")
    found["sd1"].load_textual_inversion(str(folder / "style2.safetensors"), token="<sty>")
    look = load_file(folder / "xl-look.safetensors")
    for name, part in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = (getattr(found["sdxl"], kind + part) for kind in ("text_encoder", "tokenizer"))
        found["sdxl"].load_textual_inversion(look[name], token="<look>", text_encoder=encoder, tokenizer=tokenizer)
    return found


def pictures(pipe: Any, prompt: str, negative: str) -> np.ndarray:
    return pipe(prompt, num_inference_steps=4, guidance_scale=5.0, width=128, height=64, output_type="latent",
                negative_prompt=negative, generator=torch.Generator("cpu").manual_seed(3)).images.numpy()


@pytest.mark.parametrize("family, prompt, negative, theirs", [
    ("sd1", f"{PROMPT} in style2", "bad-hands, blurry", (f"{PROMPT} in <sty>", "<bad>, blurry")),
    ("sdxl", f"XL-Look of {PROMPT}", "blurry", (f"<look> of {PROMPT}", "blurry"))])
def test_a_word_that_was_learned_is_read_as_diffusers_reads_it(
        checkpoints: Path, words: dict[str, Any], family: str, prompt: str, negative: str,
        theirs: tuple[str, str], tmp_path: Path) -> None:
    wanted = pictures(words[family], *theirs)
    engine = Engine(Catalogue(checkpoints), "cpu")
    found = finish(engine, ask(f"{family}-file", prompt=prompt, negative_prompt=negative)).latents
    assert np.abs(found - wanted).max() < 1e-4 * float(wanted.std())
    other = ask(f"{family}-file", negative_prompt="blurry")
    plain = finish(engine, other).latents  # nothing else has changed
    bare = finish(Engine(_alone(checkpoints, family, tmp_path), "cpu"), other).latents
    assert np.array_equal(plain, bare) and not np.array_equal(plain, found)


def _alone(checkpoints: Path, family: str, folder: Path) -> Catalogue:
    """The model in a folder without embeddings."""
    (folder / f"{family}-file.safetensors").write_bytes((checkpoints / f"{family}-file.safetensors").read_bytes())
    return Catalogue(folder)


def test_its_vectors_are_counted_and_stay_together(checkpoints: Path, words: dict[str, Any]) -> None:
    info, extras = Catalogue(checkpoints).get("sd1-file"), Extras(checkpoints)
    counter = counter_for(info, extras)
    model = Engine(Catalogue(checkpoints), "cpu").load("sd1-file", "fp32")
    model.learn(extras.learned(info))
    assert counter is not None
    assert counter.count("a (BAD-hands:1.2) boat", 20).tokens == 5 and counter.count("bad hands", 20).tokens == 2
    text = "boat " * 73 + "(bad-hands:1.3) style2, " + "sea " * 80
    chunks = counter.chunks(text)
    assert chunks == model.encode_prompt.chunks(text)
    assert [len(chunk) for chunk in chunks] == [73, 75, 10]  # three vectors do not fit into 75 - 73
    assert [(t.word, t.vector, t.weight) for t in chunks[1][:4]] == [
        ("bad-hands", 0, 1.3), ("bad-hands", 1, 1.3), ("bad-hands", 2, 1.3), ("style2", 0, 1.0)]
    assert counter.count(text, 20).ends[0] == "boat boat boat boat"


def test_one_of_another_width_or_a_broken_one_is_one_line_where_its_name_stands(
        checkpoints: Path, words: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="'xl-look' is made for Stable Diffusion XL .64 and 128 num.*reads 64") as told:
        check(ask("sd1-file", negative_prompt="xl-look"), Catalogue(checkpoints).get("sd1-file"), Extras(checkpoints))
    assert told.value.field == "negative_prompt"
    assert_one_line(told.value, longest=400)
    check(ask("sd1-file", prompt="xl look"), Catalogue(checkpoints).get("sd1-file"), Extras(checkpoints))
    folder = tmp_path / "embeddings"
    embedding(folder / "torn.safetensors", [64])
    (folder / "torn.safetensors").write_bytes((folder / "torn.safetensors").read_bytes()[:-8])
    (folder / "old.pt").write_bytes(b"\x80")
    embedding(folder / "long.safetensors", [64], vectors=80)
    save_file({"a": torch.zeros(2, 64), "b": torch.zeros(2, 64)}, folder / "pair.safetensors")
    embedding(folder / "deep/dup.safetensors", [64])
    embedding(folder / "dup.safetensors", [64])
    for name, says in (("torn", "cut off"), ("old", "pickled"), ("long", "80 vectors"), ("dup", "There are two"),
                       ("pair", "no textual inversion")):
        with pytest.raises(BadRequest, match=says):
            check(ask("sd1-file", prompt=f"a {name}"), Catalogue(checkpoints).get("sd1-file"), Extras(tmp_path))


def test_a_pickled_textual_inversion_is_converted(tmp_path: Path) -> None:
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 64)}, "name": "x"},
               tmp_path / "x.pt")
    assert list(convert.read_pickled(tmp_path / "x.pt")) == ["emb_params"]
