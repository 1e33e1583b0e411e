"""What the page says of a model, without a browser."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from core.models import catalogue
from core.models.catalogue import ModelInfo
from core.storybook import vocabulary
from core.storybook.ideas import AT_HOME, surprise
from ui.components.words import idea, kinds
from ui.tabs.text_to_image import examples, model_card


def model(path: Path | str) -> ModelInfo:
    return ModelInfo("m", str(path), "sd", 256, 256, 8, 77, True, 1.0)


def test_the_embedded_models_card_is_shown_with_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "STORYBOOK", tmp_path)
    assert model_card(model(tmp_path)) == ""
    (tmp_path / "README.md").write_text("# Storybook\n![samples](samples.jpg) [far](https://example.org/a.jpg)")
    card = model_card(model(tmp_path))
    assert f"![samples](gradio_api/file={tmp_path}/samples.jpg)" in card
    assert "(https://example.org/a.jpg)" in card


def test_cards_of_other_models_stay_closed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("![badge](https://example.org/badge.svg)")
    assert model_card(model(tmp_path)) == "" == model_card(None)


def test_three_prompts_to_begin_with_in_words_the_model_knows() -> None:
    for prompt in examples(model(catalogue.STORYBOOK)):
        assert vocabulary.unknown_words(prompt) == []
    assert len(examples(model(catalogue.STORYBOOK))) == len(examples(None)) == 3


def test_the_words_on_offer_and_what_means_the_same_are_known() -> None:
    offered = kinds()
    assert ["sofa", "couch", "settee"] in offered["things"]
    for words in offered.values():
        assert words and all(vocabulary.unknown_words(word) == [] for one in words for word in one)


def test_every_idea_is_in_words_the_model_knows_and_no_two_are_the_same() -> None:
    ideas = [surprise(random.Random(seed)) for seed in range(300)]
    assert [vocabulary.unknown_words(prompt) for prompt in ideas] == [[]] * len(ideas)
    assert len(set(ideas)) > 250 and max(map(len, ideas)) < 120
    assert surprise(random.Random(7)) == ideas[7]
    assert vocabulary.unknown_words(idea({})) == []
    for scene, things in AT_HOME.items():
        assert scene in vocabulary.SCENES and set(things) <= set(vocabulary.THINGS)
    assert set(vocabulary.SCENES) == set(AT_HOME)
