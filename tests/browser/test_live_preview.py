"""What a person does in the Live preview tab, in a real Chromium, with the embedded model."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.trajectory import Trajectory
from tests.browser.test_regions import regions_tab
from tests.browser.test_text_to_image import DIGESTS, generate, scrubber
from tests.browser.waiting import has_attribute, has_count, has_value, is_shown
from tests.holding import hold
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]

STEPS = 8
LONG = 30  # steps of a run that is to be watched
# Every step that stands in the right pane, in order.
WATCH = """() => {
  window.seen = [];
  const look = () => {
    const image = document.querySelector('[data-part="right-mat"] img[alt^="x0, step"]');
    if (image && seen.at(-1) !== image.alt) seen.push(image.alt);
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""
# Sixty positions of the scrubber, one for each frame of the screen: what both panes showed.
SIXTY = """async (total) => {
  const slider = document.querySelector('.inspector input[type="range"]');
  const [shown, began] = [[], performance.now()];
  for (let k = 0; k < 60; k += 1) {
    slider.value = String(1 + k % total);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(requestAnimationFrame);
    shown.push([...document.querySelectorAll(".pane-mat img")].map((image) => image.alt));
  }
  return { shown, seconds: (performance.now() - began) / 1000 };
}"""


def live(page: Any) -> Any:
    page.get_by_role("tab", name="Live preview").click()
    page.wait_for_function("document.querySelector('.inspector')?.dataset.ready === 'yes'")
    return page


def picture(page: Any, name: str | re.Pattern[str]) -> Any:
    return page.get_by_role("img", name=name, exact=isinstance(name, str))


def made(page: Any, text: str = "a red boat on the sea", steps: int = STEPS, looks: tuple[int, ...] = ()) -> Any:
    """The Live preview tab after a run, all its pictures there; looks: steps at which it stands still until seen."""
    with hold(*looks) as held:
        generate(page, text, steps)
        live(page)
        for step in looks:
            picture(page, f"x0, step {step} of {steps}").wait_for()
            held.go()
    page.get_by_text(text, exact=True).filter(visible=True).first.wait_for()
    # a run that is over is shown at full quality: its pictures come once more
    page.wait_for_function("() => document.querySelector('.inspector')?.dataset.state === 'done'")
    page.wait_for_function("() => !document.querySelector('.pane-mat img:is(.ghost, .coarse)')")
    for source in ("x0", "x_t"):
        picture(page, f"{source}, step {steps} of {steps}").wait_for(timeout=120_000)
    page.wait_for_function("() => !document.querySelector('[data-part=\"left-note\"]')?.textContent")
    scrubber(page).fill("1")
    picture(page, f"x_t, step 1 of {steps}").wait_for()
    return page


def test_a_run_is_followed_and_every_step_scrubbed_without_a_request(visit: Any, real: Served) -> None:
    page = visit(real)
    live(page)
    page.evaluate(WATCH)
    page.get_by_role("tab", name="Text to image").click()
    made(page, steps=LONG, looks=(2, 9, 20))
    names = [name for name in page.evaluate("seen") if name.endswith(f"of {LONG}")]  # an older run stood there first
    *grown, last = (int(re.findall(r"\d+", name)[1]) for name in names)
    assert last == 1 and grown == sorted(grown)  # grew in sight; the last is where `made` went

    addresses = {source: [] for source in ("x0", "x_t")}
    requests: list[str] = []
    for step in range(1, LONG + 1):  # every picture has come, however slow the machine
        scrubber(page).fill(str(step))
        for source in addresses:
            picture(page, f"{source}, step {step} of {LONG}").wait_for()
    page.wait_for_timeout(500)
    page.on("request", lambda request: requests.append(request.url))
    for step in range(LONG, 0, -1):
        scrubber(page).fill(str(step))
        for source, seen in addresses.items():
            shown = picture(page, f"{source}, step {step} of {LONG}")
            shown.wait_for()
            seen.append(shown.get_attribute("src"))
        is_shown(page.get_by_text(f"Step {step} of {LONG} · sigma"))
    sixty = page.evaluate(SIXTY, LONG)
    print(f"60 positions of the scrubber: {sixty['seconds']:.2f} s (one for each frame of the screen: 1.0 s at least)")
    assert sixty["shown"] == [[f"x_t, step {1 + k % LONG} of {LONG}", f"x0, step {1 + k % LONG} of {LONG}"]
                     for k in range(60)]
    assert requests == []
    for seen in addresses.values():
        assert len(set(page.evaluate(DIGESTS, seen))) >= LONG - 1


def test_the_keyboard_goes_through_the_steps_and_plays_the_film(visit: Any, real: Served) -> None:
    page = made(visit(real))
    page.locator(".pane-mat").first.click()
    for key, step in (("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", STEPS), ("Home", 1)):
        page.keyboard.press(key)
        picture(page, f"x0, step {step} of {STEPS}").wait_for()
    page.get_by_label("Speed").select_option("0.25")
    page.locator(".pane-mat").first.click()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    picture(page, re.compile(rf"x0, step [2-9] of {STEPS}")).wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()
    scrubber(page).focus()
    page.keyboard.press("End")
    picture(page, f"x0, step {STEPS} of {STEPS}").wait_for()


def test_a_reload_in_mid_run_comes_back_to_the_same_run(visit: Any, real: Served) -> None:
    page = visit(real)
    with hold(5):
        generate(page, "a blue boat on the sea", STEPS)
        live(page)
        picture(page, f"x0, step 5 of {STEPS}").wait_for()
        run = page.locator(".inspector").get_attribute("data-run")
        page.reload()
        picture(page, f"x0, step 5 of {STEPS}").wait_for()  # in the tab that was in sight
        has_attribute(page.locator(".inspector"), "data-run", run)
        is_shown(page.get_by_text("Running:"))
        is_shown(page.locator(".inspector").get_by_text("a blue boat on the sea").first)
        page.get_by_role("button", name="Stop").click()
        page.get_by_text(f"Stopped after 5 of {STEPS}", exact=True).wait_for()
    page.get_by_role("button", name="Resume").click()
    picture(page, f"x0, step {STEPS} of {STEPS}").wait_for(timeout=120_000)


def test_a_branch_stands_beside_its_parent_under_one_slider(visit: Any, real: Served) -> None:
    page = made(visit(real))
    scrubber(page).fill("3")
    page.get_by_role("button", name="Branch from here").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    has_value(prompt, "a red boat on the sea")
    page.get_by_role("textbox", name="Guidance", exact=True).fill("99")
    page.get_by_role("button", name="Run the branch").click()
    page.get_by_text("The guidance cannot be 99").wait_for()
    has_value(prompt, "a red boat on the sea")  # nothing typed is lost
    page.get_by_role("textbox", name="Guidance", exact=True).fill("6")
    prompt.fill("a blue boat on the sea")
    page.get_by_role("button", name="Run the branch").click()
    picture(page, re.compile("^x0 of the parent, step")).wait_for(timeout=120_000)
    has_attribute(scrubber(page), "max", str(STEPS))
    scrubber(page).fill(str(STEPS))
    for who in ("parent", "branch"):
        picture(page, f"x0 of the {who}, step {STEPS} of {STEPS}").wait_for(timeout=120_000)
    sources: dict[int, list[str]] = {}
    for step in (2, STEPS):
        scrubber(page).fill(str(step))
        sources[step] = []
        for who in ("parent", "branch"):
            shown = picture(page, f"x0 of the {who}, step {step} of {STEPS}")
            shown.wait_for()
            sources[step].append(shown.get_attribute("src"))
    assert len(set(page.evaluate(DIGESTS, sources[2]))) == 1  # what they share
    assert len(set(page.evaluate(DIGESTS, sources[STEPS]))) == 2
    page.get_by_role("button", name="Show the branch alone").click()
    picture(page, f"x_t, step {STEPS} of {STEPS}").wait_for()


def test_a_branch_takes_what_is_painted_in_the_regions_tab(visit: Any, real: Served) -> None:
    page = made(visit(real))
    page.get_by_role("button", name="Branch from here").click()
    source = page.get_by_role("combobox", name="Regions", exact=True)
    assert source.locator("option").nth(1).is_disabled()  # nothing is painted there
    regions_tab(page)
    page.get_by_label("Start from a layout").select_option("Living room")
    page.get_by_role("textbox", name="Prompt of sofa").wait_for()
    page.wait_for_function("document.querySelector('[aria-label=\"Region canvas\"]')?.dataset.kept === 'yes'")
    live(page)
    page.get_by_role("button", name="Branch from here").click()  # folds the form, and opens it anew
    page.get_by_role("button", name="Branch from here").click()
    source.select_option("From the Regions tab: 3 regions")
    page.get_by_role("button", name="Run the branch").click()
    picture(page, f"x0 of the branch, step {STEPS} of {STEPS}").wait_for(timeout=120_000)
    branch = real.studio.jobs.get(page.locator(".inspector").get_attribute("data-run"))
    assert branch and [region.name for region in branch.request.regions] == ["sofa", "plant", "painting"]
    look = page.get_by_role("button", name="Regions", exact=True)
    assert look.is_enabled()
    scrubber(page).fill(str(STEPS))
    look.click()
    picture(page, f"sofa, step {STEPS} of {STEPS}").wait_for()


def test_automatic_previews_come_out_of_order_and_end_up_whole(visit: Any, real: Served) -> None:
    page = visit(real)
    page.get_by_role("button", name="More").click()
    page.get_by_label("Preview", exact=True).click()
    page.get_by_role("option", name=re.compile("^Automatic")).click()
    live(page)
    page.evaluate(WATCH)
    page_back(page)
    generate(page, "a green tree", LONG)
    live(page)
    picture(page, f"x0, step {LONG} of {LONG}").wait_for(timeout=120_000)
    page.get_by_text(re.compile(rf"^{LONG} steps, ")).wait_for()
    cost = re.compile(r"previews by the .*: \d+\.\d\d s beside the run, which waited 0\.00 s")
    page.locator(".inspector").get_by_text(cost).wait_for()
    for step in (1, LONG // 2, LONG):  # those left out in the run are there now
        scrubber(page).fill(str(step))
        picture(page, f"x0, step {step} of {LONG}").wait_for(timeout=120_000)
    names = [name for name in page.evaluate("seen") if name.endswith(f"of {LONG}")]  # an older run stood there first
    followed = [int(re.findall(r"\d+", name)[1]) for name in names]
    grown = followed[:followed.index(LONG) + 1]
    assert grown == sorted(grown)  # the newest stood in sight, never an older one after it


def test_steps_are_kept_looked_into_and_exported(visit: Any, real: Served) -> None:
    page = made(visit(real))
    scrubber(page).fill("5")
    for view, name in (("Channels", "x0 channel 4"), ("Noise", "noise channel 1"),
                       ("Guided / unguided", "unguided x0"), ("Change", "change of x0")):
        page.get_by_role("button", name=view, exact=True).click()
        shown = picture(page, f"{name}, step 5 of {STEPS}")
        shown.wait_for()
        assert shown.evaluate("image => image.naturalWidth") > 0
    assert page.get_by_role("button", name="Regions", exact=True).is_disabled()
    page.get_by_role("button", name="Keep this step").click()
    page.get_by_text("Step 5 is kept as").wait_for()
    page.get_by_role("button", name="Export").click()
    with tempfile.TemporaryDirectory() as folder:
        with page.expect_download() as download:
            page.get_by_role("button", name="Make the file").click()
        download.value.save_as(Path(folder) / "film.webp")
        with Image.open(Path(folder) / "film.webp") as film:
            assert film.n_frames == STEPS
        with page.expect_download() as download:
            page.get_by_role("link", name="Raw latents").click()
        download.value.save_as(Path(folder) / "run.safetensors")
        assert Trajectory(Path(folder) / "run.safetensors").taken == STEPS


def test_kept_runs_open_from_the_list(visit: Any, real: Served) -> None:
    page = made(visit(real), "a green tree", 4)
    made(page_back(page), "a yellow house", 3)
    page.get_by_role("button", name=re.compile("a yellow house")).click()
    page.get_by_role("option", name=re.compile("^a green tree")).first.click()
    picture(page, "x0, step 4 of 4").wait_for()
    page.reload()  # what was chosen is remembered
    live(page)
    picture(page, "x0, step 4 of 4").wait_for()
    page.get_by_role("button", name=re.compile("a green tree")).click()
    page.keyboard.press("Escape")
    has_count(page.get_by_role("listbox"), 0)


def page_back(page: Any) -> Any:
    page.get_by_role("tab", name="Text to image").click()
    return page


def test_nothing_jumps_and_the_phone_has_every_control(visit: Any, real: Served) -> None:
    page = visit(real, width=390, height=844)
    live(page)
    panes = page.locator(".panes")
    before = panes.bounding_box()
    page_back(page)
    with hold(3):
        generate(page, "a red boat on the sea", STEPS)
        live(page)
        picture(page, f"x0, step 3 of {STEPS}").wait_for()
        while_running = panes.bounding_box()
    picture(page, f"x0, step {STEPS} of {STEPS}").wait_for(timeout=120_000)
    assert before == while_running == panes.bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("Keep this step", "Branch from here", "Export", "Play"):
        is_shown(page.get_by_role("button", name=name, exact=True))
