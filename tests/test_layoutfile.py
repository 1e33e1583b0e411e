"""Layout files: what they may say, where their masks may lie, and one line for everything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import layoutfile
from core.__main__ import main
from core.errors import BadRequest
from core.masks import Mask
from core.request import Region, Request

BOX = {"name": "sofa", "prompt": "a red sofa", "box": [0.1, 0.2, 0.6, 0.9]}


def write(folder: Path, values: object) -> Path:
    path = folder / "layout.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    return path


def test_a_layout_names_its_masks_beside_it(tmp_path: Path):
    pixels = np.zeros((64, 64), np.uint8)
    pixels[8:40, 16:32] = 255
    Image.fromarray(pixels).save(tmp_path / "plant.png")
    path = write(tmp_path, {"prompt": "a room", "width": 64, "height": 64,
                            "regions": [BOX, {"prompt": "a plant", "mask": "plant.png"}]})
    request = Request.parse(layoutfile.read(path))
    assert [region.name for region in request.regions] == ["sofa", "region 2"]
    assert np.array_equal(request.regions[1].mask.to_array(), pixels > 0)


def test_a_layout_shared_as_one_file_comes_back_the_same(tmp_path: Path):
    request = Request(prompt="a room", width=64, height=64, bootstrap=0.4, regions=(
        Region(name="a", prompt="x", mask=Mask.of(np.eye(64)), guidance=3, feather=2.5),
        Region(name="b", prompt="y", box=(0, 0, 0.5, 0.5), weight=2)))
    path = write(tmp_path, layoutfile.to_dict(request))
    assert Request.parse(layoutfile.read(path)) == request


@pytest.mark.parametrize(("values", "words"), [
    ("{no json", "not JSON"), ("[" * 100_000, "not JSON"), ([], "JSON object"), ({"prompt": "x"}, "no region"),
    ({"regions": []}, "no region"), ({"regions": [1]}, "object"), ({"regions": [BOX], "size": 3}, "no field 'size'"),
    ({"regions": [{**BOX, "colour": "red"}]}, "no field"), ({"regions": [{**BOX, "prompt": " "}]}, "has no prompt"),
    ({"regions": [{"prompt": "x"}]}, "no place"), ({"regions": [{**BOX, "box": [0, 0, 2, 1]}]}, "box"),
    ({"regions": [{**BOX, "box": [float("nan")] * 4}]}, "box"), ({"regions": [BOX] * 200}, "200 regions"),
    ({"regions": [{"prompt": "x", "mask": "gone.png"}]}, "missing"),
    ({"regions": [{"prompt": "x", "mask": "../secret.png"}]}, "outside"),
    ({"regions": [{"prompt": "x", "mask": "/etc/passwd"}]}, "outside"),
    ({"regions": [{"prompt": "x", "mask": "small.png"}]}, "32x32"),
    ({"regions": [{"prompt": "x", "mask": "black.png"}]}, "empty mask"),
    ({"regions": [{**BOX, "weight": 0}]}, "weight"), ({"regions": [{**BOX, "guidance": "much"}]}, "guidance"),
    ({"regions": [BOX], "bootstrap": 0.9}, "bootstrap"), ({"regions": [BOX], "masks": "soft"}, "masks"),
])
def test_a_bad_layout_gets_one_line_and_exit_status_2(tmp_path: Path, values, words, capsys):
    folder = tmp_path / "layouts"
    folder.mkdir()
    Image.new("L", (8, 8), 255).save(tmp_path / "secret.png")
    Image.new("L", (32, 32), 255).save(folder / "small.png")
    Image.new("L", (256, 256), 0).save(folder / "black.png")
    path = write(folder, values)
    with pytest.raises(BadRequest, match=words):
        Request.parse(layoutfile.read(path))
    assert main(["compose", str(path), "--out", str(tmp_path / "a.png"), "--model", "storybook"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path):
    folder = tmp_path / "layouts"
    folder.mkdir()
    Image.new("L", (256, 256), 255).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(BadRequest, match="outside"):
        layoutfile.read(write(folder, {"regions": [{"prompt": "x", "mask": "link.png"}]}))
