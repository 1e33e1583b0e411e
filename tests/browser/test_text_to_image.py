"""What a person does in the Text to image tab, in a real Chromium."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from core import metadata
from tests.browser.waiting import has_count, has_value, is_shown
from tests.holding import hold
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]

STEPS = 8
# Every picture that stands on the stage, in order, as [name, address].
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const image = document.querySelector('.mat-picture img[alt^="Picture"]');
    if (image && seen.at(-1)?.[0] !== image.alt) seen.push([image.alt, image.src]);
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""
DIGESTS = """(addresses) => Promise.all(addresses.map(async (address) => {
  const bytes = await (await fetch(address)).arrayBuffer();
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].join();
}))"""


def prompt(page: Any) -> Any:
    return page.get_by_role("textbox", name="Prompt", exact=True)


def generate(page: Any, text: str, steps: int | None = None) -> None:
    prompt(page).fill(text)
    if steps is not None:
        page.get_by_role("spinbutton", name="Steps", exact=True).fill(str(steps))
    page.get_by_role("button", name="Generate").click()


def picture(page: Any, name: str | re.Pattern[str]) -> Any:
    return page.get_by_role("img", name=name, exact=isinstance(name, str))


def reached(page: Any, step: int) -> None:
    """Wait until the stage shows this step or a later one; a name for one step may come and go unseen."""
    page.wait_for_function("""(step) => {
      const image = document.querySelector('.mat-picture img[alt^="Picture"]');
      return image && (image.alt.includes("finished") || Number(image.alt.match(/step (\\d+)/)[1]) >= step);
    }""", arg=step)


def scrubber(page: Any) -> Any:
    return page.get_by_role("slider", name="Step", exact=True)


def test_every_step_is_seen_scrubbed_and_a_stopped_run_keeps_its_picture(visit: Any, real: Served) -> None:
    page = visit(real)
    page.evaluate(WATCH)
    generate(page, "a red boat on the sea", STEPS)
    picture(page, "Picture, finished").wait_for(timeout=180_000)

    seen = page.evaluate("seen")
    steps = [int(match[1]) for name, _ in seen if (match := re.fullmatch(rf"Picture, step (\d+) of {STEPS}", name))]
    assert len(steps) >= STEPS - 1
    assert steps == sorted(set(steps))
    assert len(set(page.evaluate(DIGESTS, [address for _, address in seen]))) >= STEPS - 1

    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for step in (3, 1, 6, 3):
        scrubber(page).fill(str(step))
        picture(page, f"Picture, step {step} of {STEPS}").wait_for()
    assert requests == []
    scrubber(page).fill(str(STEPS))
    picture(page, "Picture, finished").wait_for()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    with tempfile.TemporaryDirectory() as folder:
        download.value.save_as(Path(folder) / "saved.png")
        made = metadata.read_png(Path(folder) / "saved.png")
    assert (made.prompt, made.steps) == ("a red boat on the sea", STEPS)
    is_shown(page.get_by_text(f"seed {made.seed} ·"))

    with hold(2):
        generate(page, "a red boat on the sea", STEPS)
        reached(page, 2)
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped after step 2").filter(visible=True).first.wait_for()
    kept = picture(page, f"Picture, step 2 of {STEPS}")
    kept.wait_for()
    assert kept.evaluate("image => image.naturalWidth") > 0
    is_shown(page.get_by_role("link", name="Download"))


def test_a_reload_in_mid_run_comes_back_to_it(visit: Any, fake: Served) -> None:
    page = visit(fake)
    with hold(4):
        generate(page, "a blue boat", STEPS)
        picture(page, f"Picture, step 4 of {STEPS}").wait_for()
        page.reload()
        picture(page, f"Picture, step 4 of {STEPS}").wait_for()
        has_value(prompt(page), "a blue boat")
    picture(page, "Picture, finished").wait_for()
    scrubber(page).fill("3")
    picture(page, f"Picture, step 3 of {STEPS}").wait_for()
    page.reload()  # a run that is over comes back too
    picture(page, "Picture, finished").wait_for()


def test_what_was_typed_since_the_last_run_survives_a_reload(visit: Any, fake: Served) -> None:
    page = visit(fake)
    generate(page, "a blue boat", 3)
    picture(page, "Picture, finished").wait_for()
    prompt(page).fill("a green hill, half a thought")
    page.get_by_role("textbox", name="Negative prompt", exact=True).fill("people")
    steps = page.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill("9")
    steps.blur()
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="other").click()
    page.wait_for_function("document.querySelector('[aria-label=Width]')?.value !== '256'")
    page.wait_for_timeout(300)
    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    has_value(prompt(page), "a green hill, half a thought")
    has_value(page.get_by_role("textbox", name="Negative prompt", exact=True), "people")
    has_value(steps, "9")
    has_value(page.get_by_role("combobox", name="Model"), "other")
    page.get_by_role("button", name="More").click()
    has_value(page.get_by_role("spinbutton", name="Width"), "512")
    picture(page, "Picture, finished").wait_for()  # and the run is still on the stage


def test_a_new_tab_begins_empty_and_can_fetch_the_last_run(visit: Any, fake: Served) -> None:
    page = visit(fake)
    generate(page, "a green boat", 3)
    picture(page, "Picture, finished").wait_for()
    other = visit(fake, context=page.context)
    assert other.get_by_role("img", name=re.compile("^Picture")).count() == 0
    other.get_by_role("button", name="Show the last run").click()
    picture(other, "Picture, finished").wait_for()


def test_two_tabs_do_not_disturb_each_other(visit: Any, fake: Served) -> None:
    page = visit(fake)
    other = visit(fake, context=page.context)
    with hold(1):
        generate(page, "a red boat", 12)
        generate(other, "a blue boat", 5)
        other.get_by_text("1 run before this one").filter(visible=True).first.wait_for()
    picture(page, "Picture, finished").wait_for()
    is_shown(page.get_by_text("· 12 steps ·"))
    picture(other, "Picture, finished").wait_for()
    is_shown(other.get_by_text("· 5 steps ·"))
    is_shown(picture(page, "Picture, finished"))
    has_value(prompt(page), "a red boat")


def test_runs_asked_for_meanwhile_come_one_after_the_other(visit: Any, fake: Served) -> None:
    page = visit(fake)
    with hold(1):
        generate(page, "a red boat", STEPS)
        reached(page, 1)
        generate(page, "a red boat", 4)
        page.get_by_text("1 run after this").wait_for()
        page.get_by_text("2 in queue").wait_for()
    page.get_by_text("· 4 steps ·").wait_for()
    picture(page, "Picture, finished").wait_for()
    page.get_by_text("in queue").wait_for(state="detached")


def test_control_enter_generates_from_any_field(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).fill("a red boat")
    steps = page.get_by_role("spinbutton", name="Steps", exact=True)
    steps.fill("3")
    steps.press("Control+Enter")
    picture(page, "Picture, finished").wait_for()
    is_shown(page.get_by_text("· 3 steps ·"))


def test_who_scrubs_back_stays_there_while_frames_arrive(visit: Any, fake: Served) -> None:
    page = visit(fake)
    with hold(5):
        generate(page, "a red boat", STEPS)
        picture(page, f"Picture, step 5 of {STEPS}").wait_for()
        scrubber(page).fill("2")
        picture(page, f"Picture, step 2 of {STEPS}").wait_for()
        page.get_by_text("running:").wait_for()
    page.get_by_role("link", name="Download").wait_for()
    picture(page, f"Picture, step 2 of {STEPS}").wait_for()
    page.locator(".stage:visible").press("ArrowRight")
    picture(page, f"Picture, step 3 of {STEPS}").wait_for()
    page.get_by_role("button", name="Play").click()
    picture(page, "Picture, finished").wait_for()


def test_nothing_jumps_when_frames_arrive(visit: Any, fake: Served) -> None:
    page = visit(fake)
    places = [page.locator(".mat:visible").bounding_box()]
    with hold(1):
        generate(page, "a red boat", 6)
        picture(page, "Picture, step 1 of 6").wait_for()
        places.append(page.locator(".mat:visible").bounding_box())
    picture(page, "Picture, finished").wait_for()
    places.append(page.locator(".mat:visible").bounding_box())
    assert places[0] == places[1] == places[2]


BAD = [("Steps", "0", "The steps cannot be 0: choose from 1 to 150."),
       ("Steps", "10000", "The steps cannot be 10000: choose from 1 to 150."),
       ("Steps", "2.5", "The steps must be a whole number, not 2.5"),
       ("Guidance", "NaN", "The guidance must be a number, not 'NaN'"),
       ("Seed", "-4", "The seed cannot be -4"),
       ("Width", "250", "250x256 is not a multiple of 8 pixels"),
       ("Pictures", "99", "The batch cannot be 99")]


def test_errors_stand_beside_their_field_and_what_was_typed_stays(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).fill("a red boat")
    page.get_by_role("button", name="More").click()
    for name, typed, line in BAD:
        field = page.get_by_role("spinbutton", name=name, exact=True)
        before = field.input_value()
        field.fill(typed)
        page.get_by_role("button", name="Generate").click()
        page.get_by_role("alert").filter(has_text=line).wait_for()
        has_value(field, typed)
        has_value(prompt(page), "a red boat")
        field.fill(before)
        field.blur()
        page.get_by_role("alert").filter(has_text=line).wait_for(state="detached")
    for typed, line in (("x" * 10_000, "The prompt has 10,000 characters"), ("bell\a", "control character U+0007")):
        prompt(page).fill(typed)
        page.get_by_role("button", name="Generate").click()
        page.get_by_role("alert").filter(has_text=line).wait_for()
        has_value(prompt(page), typed)
    assert page.get_by_role("img", name=re.compile("^Picture")).count() == 0


def test_an_error_under_more_opens_it(visit: Any, fake: Served) -> None:
    page = visit(fake)
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Guidance").fill("0")
    page.get_by_role("button", name="More").click()
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("alert").filter(has_text="The guidance cannot be 0").wait_for()
    page.get_by_role("slider", name="Guidance").wait_for()


def test_a_failed_run_shows_its_line_and_the_steps_before_it(visit: Any, fake: Served) -> None:
    page = visit(fake)
    generate(page, "fail at step 4", 8)
    page.get_by_text("The network gave no numbers at this step: try another sampler.").wait_for()
    picture(page, "Picture, step 3 of 8").wait_for()
    has_value(prompt(page), "fail at step 4")


def test_markup_in_a_prompt_stays_text(visit: Any, fake: Served) -> None:
    page = visit(fake)
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    text = "<img src=x onerror=alert(1)> ${alert(2)} {{value}} <script>alert(3)</script> 🦊"
    generate(page, text, 2)
    picture(page, "Picture, finished").wait_for()
    page.get_by_text("Storybook does not know: img, src, x").wait_for()
    has_value(prompt(page), text)
    assert page.locator("img[src$='/x']").count() == 0


def test_a_batch_shows_each_picture(visit: Any, fake: Served) -> None:
    page = visit(fake)
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Pictures").fill("3")
    generate(page, "a red boat", 4)
    picture(page, "Picture, finished (1 of 3)").wait_for()
    page.get_by_role("button", name="Show picture 3 of 3").click()
    picture(page, "Picture, finished (3 of 3)").wait_for()
    scrubber(page).fill("2")
    picture(page, "Picture, step 2 of 4 (3 of 3)").wait_for()
    page.get_by_role("button", name="Reuse seed").click()
    seed = int(re.search(r"seed (\d+)", page.locator(".meta:visible").inner_text())[1])
    page.wait_for_function("s => document.querySelector('[aria-label=Seed]')?.value === s", arg=str(seed + 2))


def test_an_example_fills_the_prompt_and_starts(visit: Any, fake: Served) -> None:
    page = visit(fake)
    examples = page.locator(".example:visible")
    has_count(examples, 3)
    text = examples.nth(1).inner_text()
    examples.nth(1).click()
    picture(page, "Picture, finished").wait_for()
    has_value(prompt(page), text)


def test_size_and_schedule_follow_what_is_chosen(visit: Any, fake: Served) -> None:
    page = visit(fake)
    page.get_by_role("button", name="More").click()
    page.get_by_role("combobox", name="Size").click()
    page.get_by_role("option", name="384 × 256").click()
    width = page.get_by_role("spinbutton", name="Width")
    page.wait_for_function("document.querySelector('[aria-label=Width]')?.value === '384'")
    width.fill("320")
    width.blur()
    page.wait_for_function("document.querySelector('[aria-label=Size]')?.value === 'Custom'")
    page.get_by_role("combobox", name="Sampler").click()
    page.get_by_role("option", name="Euler a", exact=True).click()
    page.wait_for_function("document.querySelector('[aria-label=Schedule]')?.value === 'Automatic (Uniform)'")


def test_another_model_brings_its_size_and_styles_and_takes_storybooks_words_away(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).fill("a frobnicator")
    page.get_by_text("Storybook does not know").wait_for()
    page.get_by_role("combobox", name="Model").click()
    page.get_by_role("option", name="other").click()
    page.wait_for_function("document.querySelector('[aria-label=Size]')?.value === '512 × 512'")
    page.get_by_text("Storybook does not know").wait_for(state="detached")
    page.get_by_text("Words Storybook knows").wait_for(state="hidden")
    page.get_by_text("512 × 512 px").wait_for()
    page.get_by_role("button", name="More").click()
    width = page.get_by_role("spinbutton", name="Width")
    width.fill("320")
    page.get_by_role("combobox", name="Model").focus()
    page.keyboard.press("Tab")  # passed through, not chosen anew
    page.get_by_role("combobox", name="Style").click()
    page.get_by_role("option", name="Photograph").click()
    page.get_by_text("Natural light, a 35 mm lens.").wait_for()
    has_value(width, "320")
    width.fill("512")
    width.blur()
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("512×512 px · other").wait_for()
    picture(page, "Picture, finished").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling_and_generate_stays_in_reach(visit: Any, fake: Served, theme: str) -> None:
    page = visit(fake, width=390, height=844, theme=theme)
    generate(page, "a red boat", 3)
    picture(page, "Picture, finished").wait_for()
    page.get_by_role("button", name="More").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    box = page.get_by_role("button", name="Generate").bounding_box()
    assert 0 < box["y"] < box["y"] + box["height"] <= 844
    stage, negative = page.locator(".stage:visible"), page.get_by_role("textbox", name="Negative prompt")
    assert prompt(page).bounding_box()["y"] < stage.bounding_box()["y"] < negative.bounding_box()["y"]
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 3
    assert (light < 60) == (theme == "dark")


def test_names_for_screen_readers(visit: Any, fake: Served) -> None:
    page = visit(fake)
    for role, name in (("tab", "Text to image"), ("textbox", "Prompt"), ("textbox", "Negative prompt"),
                       ("button", "Generate"), ("slider", "Steps"), ("slider", "Step")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1, (role, name)
    page.get_by_role("button", name="More").click()
    page.get_by_role("slider", name="Guidance", exact=True).wait_for()
    with hold(1):
        generate(page, "a red boat", 150)
        page.get_by_role("button", name="Stop", exact=True).click()
