"""Settings as other programs write them: read without a loss, put together again, and mapped onto our own names.

The texts follow the formats' rules (see the readers' docstrings); none is copied from anybody's picture.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.infotext import a1111, comfyui, invokeai
from core.infotext.settings import LABELS, of_infotext
from core.samplers import SAMPLERS, SCHEDULES
from core.samplers.aliases import sampler_of, schedule_of

TAIL = "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 5, Size: 512x512"
CORPUS = {
    "plain": f"a castle\nNegative prompt: fog\n{TAIL}, Model hash: 6ce0161689, Model: dream_8",
    "no negative": f"a castle, by the sea\n{TAIL}",
    "no prompt": TAIL,
    "only a negative": f"Negative prompt: fog\n{TAIL}",
    "commas at the ends": f"a castle, , fog,\nNegative prompt: , blurry, ,\n{TAIL}",
    "quotes": f'the "great" castle\nNegative prompt: \'fog\', "mist"\n{TAIL}',
    "lines": f"a castle\n\n  on a hill,\nby the sea\nNegative prompt: fog\n\nmist\n{TAIL}",
    "another negative inside": f"a castle\nNegative prompt: fog\nNegative prompt: mist\n{TAIL}",
    "negative in mid-line": f"a castle, Negative prompt: of a film\n{TAIL}",
    "a prompt that looks like settings": f"Steps: 3, Sampler: x, Seed: 1\nNegative prompt: fog\n{TAIL}",
    "weights and LoRA": f"(castle:1.3), [fog|mist], <lora:add_detail:0.8>, a\\(b\\)\nNegative prompt: (fog:1.1)\n"
                        f"{TAIL}"
                        ', Lora hashes: "add_detail: 7c6bad76eb54, more: 00ff", TI hashes: "easy: c74b4e810b03"',
    "hires": f"a castle\n{TAIL}, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 10, Hires upscaler: "
             '4x-UltraSharp, Hires prompt: "a castle, (sharp:1.2)\\nsecond line", Version: v1.10.1',
    "escapes": f'a castle\n{TAIL}, Note: "a \\"quoted\\", back\\\\slash: and\\ttab"',
    "unicode": f"红色的船，在海上 🐱 grün\nNegative prompt: размыто\n{TAIL}, Model: 模型_v2, Künstler: Dürer",
    "colons in a name": f'a castle\n{TAIL}, Model: "a: b, c"',
    "Forge": "a castle\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, "
             "Seed: 7, Size: 896x1152, Model hash: ab12, Model: some-dev, Version: f2.0.1v1.10.1-previous-1, "
             "Module 1: ae, "
             "Module 2: text_encoder-q8",
    "SD.Next": "a castle\nNegative prompt: fog\nSteps: 20, Size: 512x512, Sampler: UniPC, Seed: 7, CFG scale: 6, "
               "Model: dream, Model hash: ab12, App: SD.Next, Version: 0d6b0c2, Operations: txt2img; hires, "
               "Pipeline: StableDiffusionPipeline",
    "JSON that nobody put in quotes": f'a castle\n{TAIL}, Civitai resources: [{{"type":"checkpoint","modelVersionId":'
                                      '1},{"weight":0.8,"name":"A: b, c"}], Civitai metadata: {}',
    "lines of an extension": f"a castle\n{TAIL}, Version: v1.9.4\nTemplate: a {{castle|house: big, red}}\n"
                             "Negative Template: __fog__",
    "an empty value": f"a castle\n{TAIL}, VAE: , Version: v1.6.0",
    "quotes without need": f'a castle\n{TAIL}, Sampler RNG: "CPU"',
    "words between": f"a castle\n{TAIL}, what is this?, Version: v1.6.0, and this",
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_text_is_taken_apart_and_put_together_again_without_a_loss(name: str) -> None:
    text = CORPUS[name]
    found = a1111.parse(text)
    if found.unread:  # they stand at the end then
        assert sorted(str(found)) == sorted(text) and a1111.parse(str(found)) == found
    else:
        assert str(found) == text
    told = of_infotext(found, text)
    assert told.values["steps"] == 20 and told.values["seed"] in (5, 7)
    everything = json.dumps([told.values, told.other], ensure_ascii=False)
    for pair in (*found.pairs, *found.later):
        assert pair.label in everything or pair.label in (*LABELS, "Size", "Clip skip"), f"{pair.label} is lost"


@pytest.mark.parametrize("name, field, value", [
    ("plain", "prompt", "a castle"), ("plain", "negative_prompt", "fog"),
    ("no negative", "prompt", "a castle, by the sea"),
    ("another negative inside", "negative_prompt", "fog\nNegative prompt: mist"),
    ("negative in mid-line", "prompt", "a castle, Negative prompt: of a film"),
    ("a prompt that looks like settings", "prompt", "Steps: 3, Sampler: x, Seed: 1"),
    ("lines", "prompt", "a castle\n\n  on a hill,\nby the sea"), ("colons in a name", "model", "a: b, c"),
    ("Forge", "schedule", "Simple"), ("SD.Next", "sampler", "UniPC"), ("unicode", "model", "模型_v2"),
    ("lines of an extension", "prompt", "a castle")])
def test_the_awkward_ones_mean_what_they_should(name: str, field: str, value: str) -> None:
    assert of_infotext(a1111.parse(CORPUS[name]), "").values[field] == value


@pytest.mark.parametrize("name, label, value", [
    ("weights and LoRA", "Lora hashes", "add_detail: 7c6bad76eb54, more: 00ff"),
    ("hires", "Hires upscaler", "4x-UltraSharp"), ("hires", "Hires prompt", "a castle, (sharp:1.2)\nsecond line"),
    ("escapes", "Note", 'a "quoted", back\\slash: and\ttab'),
    ("JSON that nobody put in quotes", "Civitai resources",
     '[{"type":"checkpoint","modelVersionId":1},{"weight":0.8,"name":"A: b, c"}]'),
    ("lines of an extension", "Template", "a {castle|house: big, red}"), ("words between", "Between the settings",
                                                                         "what is this?, and this")])
def test_what_we_have_no_field_for_is_told(name: str, label: str, value: str) -> None:
    assert of_infotext(a1111.parse(CORPUS[name]), "").other[label] == value


@pytest.mark.parametrize("name, program", [("Forge", "Forge"), ("SD.Next", "SD.Next"), ("hires", "Automatic1111"),
                                           ("plain", "Automatic1111 or a relative")])
def test_the_program_is_told(name: str, program: str) -> None:
    assert of_infotext(a1111.parse(CORPUS[name]), CORPUS[name]).program == program


NAMES = st.from_regex(r"[A-Za-z][A-Za-z \-/]{1,20}[A-Za-z]", fullmatch=True)
WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\u2028\u2029\x85"), max_size=60)


@settings(max_examples=80)
@given(WORDS, WORDS, st.lists(st.tuples(NAMES, st.text(max_size=40)), min_size=3, max_size=8))
def test_whatever_stands_in_the_values_comes_back(prompt: str, negative: str, pairs: list[tuple[str, str]]) -> None:
    prompt, negative = prompt.replace("Negative prompt:", "").strip(), negative.strip()
    pairs = [(label, value.encode("utf-8", "ignore").decode()) for label, value in pairs]
    made = a1111.Infotext(prompt, negative, tuple(a1111.Pair(label, value) for label, value in pairs))
    found = a1111.parse(str(made))
    assert (found.prompt, found.negative_prompt) == (prompt, negative)
    assert [(pair.label, pair.value) for pair in found.pairs] == pairs and not found.unread
    assert str(found) == str(made).strip()


@settings(max_examples=80)
@given(st.text(max_size=300))
def test_reading_what_was_read_changes_nothing(text: str) -> None:
    once = a1111.parse(text)
    assert a1111.parse(str(once)) == once or not once.pairs


# -- names


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_our_samplers_are_known_however_they_are_written(name: str) -> None:
    assert sampler_of(name) == (name, "") and sampler_of(name.upper()) == (name, "")
    assert sampler_of(f"{name} Karras") == (name, "Karras")


@pytest.mark.parametrize("name, ours, schedule", [
    ("dpmpp_2m", "DPM++ 2M", ""), ("dpmpp_2m_k", "DPM++ 2M", "Karras"), ("dpmpp_2m_sde_gpu", "DPM++ 2M SDE", ""),
    ("euler_ancestral", "Euler a", ""), ("euler_a", "Euler a", ""), ("k_euler", "Euler", ""), ("uni_pc", "UniPC", ""),
    ("unipc_k", "UniPC", "Karras"), ("pndm", "PLMS", ""), ("dpm_2_ancestral", "DPM2 a", ""), ("kdpm_2_a_k", "DPM2 a",
                                                                                             "Karras"),
    ("res_multistep", None, ""), ("heunpp2", None, ""), ("DPM adaptive", None, ""), ("", None, "")])
def test_samplers_of_others_are_ours_or_nobody(name: str, ours: str | None, schedule: str) -> None:
    assert sampler_of(name) == (ours, schedule)


def test_schedules_of_others_are_ours_or_nobody() -> None:
    assert [schedule_of(name) for name in ("karras", "normal", "sgm_uniform", "beta", "kl_optimal", "DDIM")] == \
        ["Karras", "Uniform", "SGM Uniform", "Beta", None, "Uniform"]
    assert all(schedule_of(name) == name for name in SCHEDULES)


def test_a_schedule_its_sampler_does_not_take_is_told_and_not_set() -> None:
    told = of_infotext(a1111.parse(f"a\n{TAIL.replace('Automatic', 'Karras')}"), "")
    assert told.values["sampler"] == "Euler a" and "schedule" not in told.values
    assert told.other["Schedule type"] == "Karras"


# -- graphs and objects


def graph() -> dict[str, Any]:
    """A LoRA, two texts, a size, a sampler, a decoder, a file."""
    return {
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 42, "steps": 25, "cfg": 6.5, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0,
            "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dream_8.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 512, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle, \"old\"\nby the sea", "clip": ["11", 0]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["11", 0]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
        "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "detail.safetensors", "strength_model": 0.8,
                                                      "model": ["4", 0], "clip": ["4", 1]}},
        "11": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
    }


EXPECTED = {"seed": 42, "steps": 25, "guidance": 6.5, "sampler": "DPM++ 2M", "schedule": "Karras", "width": 640,
            "height": 512, "prompt": "a castle, \"old\"\nby the sea", "negative_prompt": "fog",
            "model": "dream_8.safetensors", "clip_skip": 2}


def test_a_graph_of_comfyui_is_followed_from_its_end() -> None:
    told = comfyui.read({"prompt": json.dumps(graph())})
    assert told and told.values == EXPECTED and told.program == "ComfyUI"
    assert told.other == {"LoraLoader.lora_name": "detail.safetensors", "LoraLoader.strength_model": "0.8",
                          "KSampler.denoise": "1.0"}


def test_texts_that_come_from_other_nodes_and_through_combining_ones_are_found() -> None:
    made = graph()
    made["6"]["inputs"]["text"] = ["20", 0]
    made["20"] = {"class_type": "PrimitiveString", "inputs": {"value": "a castle"}}
    made["21"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a boat", "clip": ["11", 0]}}
    made["22"] = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0],
                                                                  "conditioning_2": ["21", 0]}}
    made["23"] = {"class_type": "ControlNetApplyAdvanced", "inputs": {
        "positive": ["22", 0], "negative": ["7", 0], "strength": 0.7, "control_net": ["24", 0]}}
    made["24"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "depth.safetensors"}}
    made["3"]["inputs"] |= {"positive": ["23", 0], "negative": ["23", 1], "seed": ["25", 0]}
    made["25"] = {"class_type": "Seed", "inputs": {"seed": 99}}
    told = comfyui.read({"prompt": json.dumps(made)})
    assert told is not None
    assert sorted(told.values["prompt"].split("\n")) == ["a boat", "a castle"]
    assert told.values["negative_prompt"] == "fog" and told.values["seed"] == 99
    assert told.other["ControlNetLoader.control_net_name"] == "depth.safetensors"


def test_the_graph_of_the_screen_will_do() -> None:
    nodes = [{"id": 3, "type": "KSampler", "widgets_values": [42, "randomize", 25, 6.5, "dpmpp_2m", "karras", 1],
              "inputs": [{"name": "model", "link": 1}, {"name": "positive", "link": 2}, {"name": "negative", "link": 3},
                         {"name": "latent_image", "link": 4}]},
             {"id": 4, "type": "CheckpointLoaderSimple", "widgets_values": ["dream_8.safetensors"]},
             {"id": 5, "type": "EmptyLatentImage", "widgets_values": [640, 512, 1]},
             {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a castle"], "inputs": []},
             {"id": 7, "type": "CLIPTextEncode", "widgets_values": ["fog"]},
             {"id": 9, "type": "SaveImage", "widgets_values": ["x"], "inputs": [{"name": "images", "link": 5}]}]
    links = [[1, 4, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "CONDITIONING"], [3, 7, 0, 3, 2, "CONDITIONING"],
             [4, 5, 0, 3, 3, "LATENT"], [5, 3, 0, 9, 0, "IMAGE"]]
    told = comfyui.read({"workflow": json.dumps({"nodes": nodes, "links": links})})
    expected = {**EXPECTED, "prompt": "a castle"}
    del expected["clip_skip"]
    assert told and told.values == expected


def test_a_sampler_that_is_not_here_is_told_and_its_schedule_kept() -> None:
    made = graph()
    made["3"]["inputs"] |= {"sampler_name": "res_multistep", "scheduler": "kl_optimal"}
    told = comfyui.read({"prompt": json.dumps(made)})
    assert told and "sampler" not in told.values and "schedule" not in told.values
    assert told.other["Sampler"] == "res_multistep" and told.other["Schedule type"] == "kl_optimal"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", "[" * 100_000, '{"1": 2}', '{"nodes": [1, null]}',
                                  '{"nodes": 5}', '{"1": {"class_type": "SaveImage", "inputs": {"a": ["1", 0]}}}'])
def test_what_is_no_graph_is_none(text: str) -> None:
    assert comfyui.read({"prompt": text, "workflow": text}) is None


def test_a_graph_that_runs_in_circles_comes_to_an_end() -> None:
    made = graph()
    made["10"]["inputs"]["model"] = ["3", 0]
    made["6"]["inputs"] = {"text": ["6", 0], "clip": ["6", 0]}
    told = comfyui.read({"prompt": json.dumps(made)})
    assert told and told.values["prompt"] == "" and told.values["steps"] == 25


def test_invokeai_is_read_new_and_old() -> None:
    new = {"app_version": "5.4.0", "generation_mode": "sdxl_txt2img", "positive_prompt": "a castle", "seed": 42,
           "negative_prompt": "fog", "width": 1024, "height": 768, "cfg_scale": 7.5, "steps": 30, "clip_skip": 1,
           "scheduler": "dpmpp_2m_k", "model": {"name": "Dream XL", "hash": "blake3:00"}, "cfg_rescale_multiplier": 0,
           "loras": [{"model": {"name": "detail"}, "weight": 0.75}]}
    told = invokeai.read({"invokeai_metadata": json.dumps(new)})
    assert told and told.values == {
        "prompt": "a castle", "negative_prompt": "fog", "seed": 42, "width": 1024, "height": 768, "guidance": 7.5,
        "steps": 30, "clip_skip": 2, "sampler": "DPM++ 2M", "schedule": "Karras", "model": "Dream XL"}
    assert "detail" in told.other["loras"] and "0.75" in told.other["loras"]
    old = {"model_weights": "stable-diffusion-1.5", "image": {
        "prompt": [{"prompt": "a castle [fog, mist]", "weight": 1}], "steps": 50, "cfg_scale": 7.5, "width": 512,
        "height": 512, "seed": 3, "sampler": "k_lms", "perlin": 0.1}}
    told = invokeai.read({"sd-metadata": json.dumps(old)})
    assert told and told.values == {
        "prompt": "a castle", "negative_prompt": "fog, mist", "steps": 50, "guidance": 7.5, "width": 512, "height": 512,
        "seed": 3, "sampler": "LMS", "model": "stable-diffusion-1.5"}
    assert told.other["perlin"] == "0.1"
    assert invokeai.read({"invokeai_metadata": "[" * 10_000, "sd-metadata": "5"}) is None
