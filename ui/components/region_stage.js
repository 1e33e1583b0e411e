// The canvas and the stage know of each other: the picture that grows there lies beneath the paint here,
// and the paint can lie over the picture there.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { say } = await from("say.js");

// over(): a run has come to its end. found(Map): how surely each region's thing is in the picture there.
export function follow(element, { layout, view, paintStack, maskOf, over, found }) {
  const stage = element.closest(".regions-bench")?.querySelector(".mat");
  if (!stage) return { repaint() {}, over: false };
  const sheet = document.createElement("canvas");
  sheet.className = "mat-masks";
  sheet.setAttribute("aria-hidden", "true");
  sheet.hidden = true;
  const layers = new WeakMap();
  const self = { over: false, repaint };
  const toggle = document.createElement("button");
  toggle.type = "button";
  toggle.className = "quiet";
  toggle.textContent = say("regions.masks.label");
  toggle.title = say("painter.over-title");
  toggle.setAttribute("aria-pressed", "false");
  toggle.addEventListener("click", () => {
    self.over = !self.over;
    toggle.setAttribute("aria-pressed", String(self.over));
    repaint();
  });
  for (const old of stage.querySelectorAll(".mat-masks, .mat-tools")) old.remove();
  const tools = document.createElement("div");
  tools.className = "mat-tools";
  tools.append(toggle);
  stage.append(sheet, tools);

  function repaint() {
    sheet.hidden = !self.over;
    if (self.over) paintStack(sheet, layout, maskOf, layers);
  }

  function look() {
    const image = stage.querySelector(".mat-picture img:not(.ghost)");
    const real = image && image.naturalWidth ? image : null;
    toggle.hidden = !real;
    if (!real) sheet.hidden = true;
    if (real === view.picture) return;
    view.picture = real;
    view.later();
    repaint();
  }

  const frame = stage.closest(".stage");
  let state = frame.dataset.state;
  new MutationObserver(() => {
    if (state === "running" && ["done", "stopped"].includes(frame.dataset.state)) over();
    state = frame.dataset.state;
  }).observe(frame, { attributes: true, attributeFilter: ["data-state"] });
  new MutationObserver(look).observe(stage.querySelector(".mat-picture"), { childList: true, subtree: true });
  look();

  let told = "";
  function score() {
    const thumbs = [...stage.querySelectorAll(".thumb")];
    const picture = Math.max(thumbs.findIndex((thumb) => thumb.getAttribute("aria-pressed") === "true"), 0);
    const next = JSON.stringify(JSON.parse(frame.dataset.found || "[]")[picture] || []);
    if (next === told) return;
    told = next;
    found(new Map(JSON.parse(next).map(([name, prompt, sure]) => [JSON.stringify([name, prompt]), sure])));
  }
  new MutationObserver(score).observe(frame, { attributes: true, attributeFilter: ["data-found", "aria-pressed"],
    subtree: true });
  score();
  return self;
}
