"""ui.composition: what was painted <-> Request; and /compose through a real gradio_client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from core import layoutfile, metadata
from core.errors import BadRequest, StartError
from core.layout import layout_of, predicted_evaluations
from core.masks import Mask
from core.models.catalogue import STORYBOOK, ModelInfo
from core.presets import load_layouts
from core.request import Region, Request
from core.storybook import vocabulary
from tests.serving import THIRD_PARTY, Served, served
from ui import composition
from ui.components.cells import shares
from ui.tabs.regions import uploaded

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]

INFO = ModelInfo("storybook", str(STORYBOOK), "sd", 256, 256, 8, 77, True, 38.0)
BOX = {"name": "sofa", "prompt": "a red sofa", "box": [0.2, 0.5, 0.8, 0.9]}


def blob(width: int = 256, height: int = 256, seed: int = 0) -> Mask:
    rng = np.random.default_rng(seed)
    return Mask.of(rng.random((height // 8, width // 8)).repeat(8, 0).repeat(8, 1) > 0.6)


def painted_request(**changes: Any) -> Request:
    regions = (Region(name="sofa", prompt="a red sofa", mask=blob(), guidance=7.5, feather=4),
               Region(name="<plant> 🌿", prompt="a green\nplant", negative_prompt="blue", mask=blob(seed=1),
                      weight=2.5))
    return Request(**{"prompt": "a living room", "regions": regions, "bootstrap": 0.35, "masks": "paper",
                      "crop_after": 0.5, "join_prompts": True, "seed": 3} | changes)


def form_of(request: Request) -> dict[str, Any]:
    """The form's values, as the browser would send them."""
    return json.loads(json.dumps(composition.from_request(request)))


# -- the form


@pytest.mark.parametrize("request_", [
    painted_request(),
    painted_request(panorama="smooth", stride=64, wrap=True, steps=7),
    Request(prompt="the sea", panorama="uniform", width=512),
])
def test_a_composition_survives_the_canvas(request_: Request) -> None:
    assert composition.to_request(form_of(request_)) == request_


def test_small_regions_begin_with_what_suits_the_model() -> None:
    other = replace(INFO, name="mine", path="/models/mine")
    assert [composition.settings_of(composition.first_request(info.name, info))["crop_after"]
            for info in (INFO, other)] == ["0", "100"]
    assert composition.crops_for(other, {"crop_after": "0"}) == {"crop_after": "100"}
    assert composition.crops_for(INFO, {"crop_after": "100"}) == {"crop_after": "0"}
    assert composition.crops_for(INFO, {"crop_after": "35"}) == composition.crops_for(other, {"crop_after": "35"}) == {}
    canvas = {"canvas": {"width": 384, "height": 256}}
    assert composition.usual(canvas, other) == {"width": 384, "height": 256, "crop_after": 1.0}
    assert composition.usual(canvas, INFO)["crop_after"] == 0.0


def test_boxes_become_the_paint_they_cover() -> None:
    request = Request(regions=(Region(name="a", prompt="a cat", box=(0.25, 0.5, 0.75, 1.0)),))
    region = composition.to_request(form_of(request)).regions[0]
    assert region.box is None and region.mask is not None
    array = region.mask.to_array()
    assert array[128:, 64:192].all() and array.sum() == 128 * 128


def test_masks_go_along_to_another_size() -> None:
    values = form_of(painted_request())
    half = composition.to_request({**values, "width": "128", "height": "384"})
    assert half.regions[0].mask is not None
    assert (half.regions[0].mask.width, half.regions[0].mask.height) == (128, 384)
    share = [region.mask.to_array().mean() for region in (half.regions[0], painted_request().regions[0]) if region.mask]
    assert share[0] == pytest.approx(share[1], abs=0.01)
    back = composition.rescaled(half.regions[0].mask, 256, 256)
    assert back == painted_request().regions[0].mask  # 8-pixel blocks lose nothing at half the size


def test_a_hidden_region_is_left_out_and_an_unfinished_one_waits() -> None:
    values = form_of(painted_request())
    values["canvas"]["regions"][0]["visible"] = False
    assert [r.name for r in composition.to_request(values).regions] == ["<plant> 🌿"]
    values["canvas"]["regions"] += [{"name": "new", "prompt": "", "runs": "65536"},
                                    {"name": "cat", "prompt": "a cat", "runs": "65536"}]
    draft, unfinished = composition.to_draft(values)
    assert [r.name for r in draft.regions] == ["<plant> 🌿"]
    assert unfinished == ["Hidden, so left out: sofa.", "new: paint it and say what it is.", "cat: paint it."]
    with pytest.raises(BadRequest, match="'new' has no prompt"):
        composition.to_request(values)


def test_a_half_finished_layout_survives_its_file(tmp_path: Path) -> None:
    values = form_of(painted_request())
    values["canvas"]["regions"][0]["visible"] = False
    unfinished = {"negative_prompt": "", "guidance": "", "weight": "1", "feather": "0", "visible": True}
    values["canvas"]["regions"] += [{**unfinished, "name": "new", "prompt": "", "runs": "65536", "color": "#f5a524"},
                                    {**unfinished, "name": "cat", "prompt": "a cat", "runs": "65536",
                                     "color": "#3e7bfa", "visible": False}]
    request, states = composition.to_sketch(values)
    (tmp_path / "layout.json").write_text(json.dumps(layoutfile.to_dict(request, states)))
    fields, read, _ = layoutfile.sketch(tmp_path / "layout.json")
    assert read == states
    canvas = composition.canvas_of(Request(**fields), 8, read)
    without_colours = [[{k: v for k, v in entry.items() if k != "color"} for entry in one["regions"]]
                       for one in (values["canvas"], canvas)]
    assert without_colours[0] == without_colours[1]


@pytest.mark.parametrize("changes", [{"weight": "0", "prompt": ""}, {"guidance": "x", "runs": "65536"}])
def test_what_is_wrong_in_a_half_finished_region_is_told_when_it_is_saved(changes: dict[str, Any]) -> None:
    values = form_of(painted_request())
    values["canvas"]["regions"][0] |= changes
    with pytest.raises(BadRequest, match="sofa"):
        composition.to_sketch(values)


@pytest.mark.parametrize(("changes", "line", "field"), [
    ({"bootstrap": "51"}, "The bootstrapping cannot be 51 %: choose from 0 to 50.", "bootstrap"),
    ({"bootstrap": ""}, "The bootstrapping cannot be empty %", "bootstrap"),
    ({"bootstrap": "nan"}, "The bootstrapping cannot be nan %", "bootstrap"),
    ({"crop_after": "101"}, "The start of crops cannot be 101 %: choose from 0 to 100.", "crop_after"),
    ({"stride": "x"}, "The stride must be a whole number", "stride"),
    ({"masks": "soft"}, "No way of masks named 'soft'", "masks"),
    ({"panorama": "round"}, "No panorama named 'round'", "panorama"),
    ({"steps": "0"}, "The steps cannot be 0", "steps"),
])
def test_what_cannot_be_is_refused_beside_its_field(changes: dict[str, str], line: str, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        composition.to_request({**form_of(painted_request()), **changes})
    assert line in str(caught.value) and caught.value.field == field


@pytest.mark.parametrize(("changes", "line"), [
    ({"guidance": "99"}, "99"), ({"guidance": "abc"}, "abc"), ({"weight": "0"}, "weight 0"),
    ({"feather": "-1"}, "feather -1"), ({"prompt": "x" * 6000}, "6,000 characters"),
    ({"negative_prompt": "\x07"}, "U+0007"), ({"runs": "1 2 3"}, "damaged"), ({"runs": "a b"}, "paint it anew"),
    ({"runs": None}, "paint it anew"), ({"prompt": 7}, "must be text"), ({"runs": "65536"}, "empty mask"),
])
def test_a_bad_region_is_named(changes: dict[str, Any], line: str) -> None:
    values = form_of(painted_request())
    values["canvas"]["regions"][0] |= changes
    with pytest.raises(BadRequest) as caught:
        composition.to_request(values)
    assert "sofa" in str(caught.value) and line in str(caught.value) and caught.value.field == "regions"


@pytest.mark.parametrize("regions", [None, "x", [1], {"a": 1}])
def test_a_canvas_that_holds_no_regions_is_refused(regions: Any) -> None:
    values = form_of(painted_request())
    values["canvas"]["regions"] = regions
    with pytest.raises(BadRequest, match="no list of regions"):
        composition.to_request(values)


def test_the_status_line_tells_paint_cost_and_time() -> None:
    request = Request(prompt="a room", steps=20, regions=(Region(name="a", prompt="b", box=(0, 0, 0.5, 1)),))
    cost = predicted_evaluations(request, INFO)
    assert composition.status(request, INFO, None) == f"50 % painted · {cost} evaluations"
    assert composition.status(request, INFO, 0.1).endswith(f"{cost} evaluations, about {cost / 10:.0f} s")
    assert composition.status(request, INFO, 60).endswith("min")


def test_the_status_line_tells_what_crops_save() -> None:
    request = Request(prompt="a room", steps=20, bootstrap=0, crop_after=0.5, regions=tuple(
        Region(name=str(k), prompt=f"thing {k}", box=(x, y, x + 0.2, y + 0.2))
        for k, (x, y) in enumerate([(0.1, 0.1), (0.7, 0.1), (0.1, 0.7)])))
    # 10 steps of 4 prompts and their common negative one; 10 of two whole passes and six of a quarter
    assert composition.status(request, INFO, 1.0).endswith("130 evaluations (with crops the work of 85), about 85 s")


def test_an_empty_prompt_matters_only_where_nobody_painted() -> None:
    half = Request(regions=(Region(name="a", prompt="b", box=(0, 0, 0.5, 1)),))
    whole = Request(regions=(Region(name="a", prompt="b", box=(0, 0, 1, 1)),))
    told = [composition.notes_of([], request, layout_of(request, 8)) for request in (half, whole)]
    assert "Nobody painted 50 %" in told[0][0].text and told[1] == []


def test_the_cells_are_those_of_the_engine() -> None:
    import base64

    layout = layout_of(painted_request(), 8)
    packed = shares(layout, ["#112233", "#445566"])
    weights = [np.frombuffer(base64.b64decode(text), np.uint8).reshape(32, 32) / 255 for text in packed["weights"]]
    assert np.abs(np.stack(weights) - layout.weights).max() <= 0.5 / 255 + 1e-6
    assert (packed["width"], packed["height"]) == (32, 32)


def test_only_files_that_were_sent_are_opened(tmp_path: Path) -> None:
    for path in ("/etc/passwd", tmp_path, "", None, "../../x", 7):
        with pytest.raises(BadRequest, match="has not arrived"):
            uploaded(path)


# -- presets


def test_every_layout_can_be_started_from_and_is_in_storybooks_words() -> None:
    layouts = {name: Request(**fields) for name, fields in load_layouts().items()}
    assert list(layouts)[0] == "Living room" and len(layouts) >= 5
    for name, request in layouts.items():
        assert composition.to_request({**form_of(request), "seed": {"random": False, "seed": "0"}}).regions, name
        for text in (request.prompt, *(region.prompt for region in request.regions)):
            assert vocabulary.unknown_words(text) == [], name
        assert layout_of(request, 8).hidden == [], name
        large = composition.scaled(request, ModelInfo("m", "m", "sd", 512, 512, 8, 77, False, 1.0))
        assert (large.width, large.height) == (2 * request.width, 2 * request.height)


def test_a_broken_layout_stops_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "1-a.json").write_text('{"prompt": "x", "regions": [{"prompt": "a"}]}')
    with pytest.raises(StartError, match="The preset 1-a.json cannot be used: .* has no place yet"):
        load_layouts(tmp_path)


# -- the endpoint


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("compose")) as running:
        yield running


@pytest.fixture(scope="module")
def client(studio: Served) -> Client:
    return Client(studio.address, verbose=False)


def test_compose_takes_every_field_of_a_request(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/compose"]
    parameters = {p["parameter_name"]: p["parameter_default"] for p in named["parameters"]}
    assert parameters == Request().to_dict() | {"preview": "none"}


def test_compose_gives_pictures_that_hold_their_layout(client: Client) -> None:
    mask = blob()
    (path,), info = client.predict(
        prompt="a living room", regions=[BOX, {"name": "plant", "prompt": "a plant", "mask": mask.to_dict()}],
        steps=2, bootstrap=0.5, masks="paper", crop_after=0.5, join_prompts=True, seed=9, api_name="/compose")
    made = metadata.read_png(path)
    assert made.regions[1].mask == mask and made.regions[0].box == (0.2, 0.5, 0.8, 0.9)
    assert (made.bootstrap, made.masks, made.crop_after, made.join_prompts, made.seed) == (0.5, "paper", 0.5, True, 9)
    assert Request.parse(info["request"]).regions == made.regions
    assert info["stopped"] is False
    assert Request(**layoutfile.parse(layoutfile.to_dict(made))).regions == made.regions


def test_compose_makes_panoramas_without_regions(client: Client) -> None:
    (path,), _ = client.predict(prompt="the sea", panorama="smooth", width=512, stride=64, wrap=True, steps=1,
                                api_name="/compose")
    assert metadata.read_png(path).panorama == "smooth"


@pytest.mark.parametrize(("values", "line"), [
    ({"regions": []}, "There is no region"),
    ({"regions": [{**BOX, "box": [0, 0, 2, 1]}]}, "all in 0 to 1"),
    ({"regions": [{**BOX, "prompt": " "}]}, "has no prompt"),
    ({"regions": [{"name": "a", "prompt": "b"}]}, "has no place yet"),
    ({"regions": [{**BOX, "colour": "red"}]}, "no field 'colour'"),
    ({"regions": ["sofa"]}, "must be an object"),
    ({"regions": "sofa"}, "must be a list"),
    ({"regions": [BOX] * 200}, "200 regions are too many"),
    ({"regions": [{"name": "a", "prompt": "b", "mask": {"width": 64, "height": 64, "runs": "0 4096"}}]},
     "64x64 pixels, the picture 256x256"),
    ({"regions": [{"name": "a", "prompt": "b", "mask": {"width": 256, "height": 256, "runs": "65536"}}]},
     "empty mask"),
    ({"regions": [{"name": "a", "prompt": "b", "mask": "../../etc/passwd"}]}, "not in the form it was saved in"),
    ({"bootstrap": 0.9}, "bootstrap"),
    ({"masks": "hard"}, "No way of masks named 'hard'"),
    ({"panorama": "on"}, "No panorama named 'on'"),
    ({"panorama": "smooth", "stride": 12}, "A stride of 12 pixels does not fit"),
    ({"wrap": "yes"}, "wrap must be true or false"),
])
def test_bad_input_gets_its_one_line(client: Client, values: dict[str, Any], line: str) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(**{"steps": 1, "regions": [BOX], **values}, api_name="/compose")
    assert line in str(caught.value) and "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_the_pace_is_that_of_the_last_run_alike(studio: Served, client: Client) -> None:
    jobs = studio.studio.jobs
    request = Request(prompt="a boat", steps=3, width=64, height=128)
    assert jobs.pace(request) is None
    client.predict(prompt="a cat", steps=3, width=64, height=128, api_name="/txt2img")
    pace = jobs.pace(request)
    assert pace is not None and 0.02 < pace < 5  # the fake takes at least 0.05 s for two
    assert jobs.pace(request.replace(panorama="smooth")) is None
    assert jobs.pace(request, worth=lambda asked: 0.5) == pytest.approx(2 * pace)
