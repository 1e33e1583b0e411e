// The list of regions: top of the pile first, the rest (what nobody painted) last. Names and prompts are written with
// textContent and value only.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { say } = await from("say.js");

const ICONS = {
  up: "M12 19V6m-6 6 6-6 6 6", down: "M12 5v13m-6-6 6 6 6-6",
  eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z",
  closed: "M3 10.5c2.2 3 5.4 4.8 9 4.8s6.8-1.8 9-4.8M7 14.6l-1.4 2.6M12 15.3v3M17 14.6l1.4 2.6",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7M10.5 10.5v6M13.5 10.5v6", more: "M6 9.5l6 6 6-6",
};
const NUMBERS = { guidance: "field.guidance", weight: "painter.row.weight", feather: "painter.row.feather" };
const UNSAID = { weight: "1", feather: "0" }; // where nothing is typed; guidance: the run's
// the controls that are named after their region
const NAMED = ["name", "prompt", "up", "down", "trash", "more", "negative_prompt", "guidance", "weight", "feather", "color",
  "solo", "duplicate", "mirror", "clear"];

const SURE = 0.5; // what is less is called weak: of such regions more than half do not show their thing

export class List {
  // on: what happens when (select, edit, text, rename, color, visible, solo, remove, duplicate, mirror, clear, order)
  constructor(box, layout, on) {
    Object.assign(this, { box, layout, on });
    this.rows = new Map(); // id -> parts
    this.open = new Set(); // ids whose settings are unfolded
    this.found = new Map(); // [name, prompt] as JSON -> 0..1, of the picture on the stage
  }

  paint() {
    const { layout, box } = this;
    const shown = [...layout.regions].reverse();
    const living = new Set(shown.map((region) => region.id));
    for (const id of [...this.rows.keys()]) if (!living.has(id)) this.rows.delete(id);
    const wanted = shown.map((region) => {
      if (!this.rows.has(region.id)) this.rows.set(region.id, this.build(region));
      return this.rows.get(region.id).row;
    });
    const stands = [...box.children];
    if (wanted.length !== stands.length || wanted.some((row, k) => row !== stands[k])) {
      const focused = box.contains(document.activeElement) ? document.activeElement : null;
      box.replaceChildren(...wanted);
      if (focused?.isConnected) focused.focus({ preventScroll: true });
    }
    this.weak = [];
    layout.regions.forEach((region, k) => this.fill(region, k));
  }

  focusPrompt(id) {
    const { prompt, row } = this.rows.get(id);
    prompt.focus({ preventScroll: true }); // the canvas stays where it is
    row.scrollIntoView({ block: "nearest" });
  }

  build(region) {
    const { id } = region;
    const row = make("li", "region");
    const part = { row };
    part.swatch = button("region-swatch", "", () => this.on.select(id));
    part.name = make("input", "region-name");
    part.name.maxLength = 60;
    part.name.spellcheck = false;
    part.name.autocomplete = "off";
    part.prompt = make("textarea", "region-prompt");
    part.prompt.rows = 1;
    part.prompt.placeholder = say("painter.row.prompt");
    part.up = icon("up", () => this.on.order(id, 1));
    part.down = icon("down", () => this.on.order(id, -1));
    part.eye = icon("eye", () => this.on.visible(id));
    part.trash = icon("trash", () => this.on.remove(id));
    part.more = icon("more", () => {
      this.open[this.open.has(id) ? "delete" : "add"](id);
      this.fill(this.layout.regions.find((one) => one.id === id));
    });
    const actions = make("span", "region-actions");
    actions.append(part.up, part.down, part.eye, part.trash, part.more);
    part.detail = this.buildDetail(id, part);
    part.count = make("span", "count region-count");
    part.score = make("span", "region-score");
    part.score.hidden = true;
    row.append(part.swatch, part.name, part.prompt, part.score, actions, part.count, part.detail);
    row.addEventListener("focusin", () => this.on.select(id));
    row.addEventListener("pointerdown", () => this.on.select(id));
    part.name.addEventListener("change", () => this.on.rename(id, part.name.value));
    part.name.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) part.prompt.focus();
    });
    part.prompt.addEventListener("input", () => {
      grow(part.prompt);
      this.on.text(id, "prompt", part.prompt.value);
    });
    return part;
  }

  buildDetail(id, part) {
    const detail = make("div", "region-detail");
    part.negative_prompt = make("textarea", "region-negative");
    part.negative_prompt.rows = 1;
    part.negative_prompt.placeholder = say("painter.row.negative-empty");
    part.negative_prompt.addEventListener("input", () => {
      grow(part.negative_prompt);
      this.on.text(id, "negative_prompt", part.negative_prompt.value);
    });
    detail.append(field(say("field.negative-prompt"), part.negative_prompt, "wide"));
    for (const [key, label] of Object.entries(NUMBERS)) {
      part[key] = make("input", "number-text");
      part[key].inputMode = "decimal";
      part[key].autocomplete = "off";
      part[key].placeholder = UNSAID[key] ?? say("painter.row.guidance-empty");
      part[key].addEventListener("input", () => this.on.text(id, key, part[key].value));
      detail.append(field(say(label), part[key]));
    }
    part.color = make("input", "region-color");
    part.color.type = "color";
    part.color.addEventListener("change", () => this.on.color(id, part.color.value));
    detail.append(field(say("painter.row.color"), part.color));
    const acts = make("div", "region-acts");
    part.solo = button("quiet", say("painter.row.solo"), () => this.on.solo(id));
    part.duplicate = button("quiet", say("painter.row.duplicate"), () => this.on.duplicate(id));
    part.mirror = button("quiet", say("painter.row.mirror"), () => this.on.mirror(id));
    part.clear = button("quiet", say("painter.row.clear"), () => this.on.clear(id));
    acts.append(part.solo, part.duplicate, part.mirror, part.clear);
    detail.append(acts);
    return detail;
  }

  fill(region) {
    const part = this.rows.get(region.id);
    const { layout } = this;
    const number = layout.regions.indexOf(region);
    part.row.style.setProperty("--tint", region.color);
    part.row.classList.toggle("selected", layout.selected === region.id);
    part.row.classList.toggle("unseen", !region.visible);
    part.swatch.textContent = number < 9 ? String(number + 1) : "";
    part.swatch.setAttribute("aria-pressed", String(layout.selected === region.id));
    const { name } = region;
    const paint = say("painter.of.paint", { name });
    const eye = region.visible ? say("painter.of.hide", { name }) : say("painter.of.show", { name });
    for (const [element, label] of [[part.swatch, paint], [part.eye, eye],
      ...NAMED.map((key) => [part[key], say(`painter.of.${key.replace("_", "-")}`, { name })])]) {
      if (element.getAttribute("aria-label") === label) continue;
      element.setAttribute("aria-label", label);
      if (element.tagName === "BUTTON") element.title = label;
    }
    part.swatch.title = number < 9 ? say("painter.with-key", { name: paint, key: number + 1 }) : paint;
    for (const key of ["name", "prompt", "negative_prompt", "guidance", "weight", "feather", "color"]) {
      if (part[key].value !== region[key]) part[key].value = region[key];
    }
    part.count.dataset.count = `regions:${number}`;
    draw(part.eye, region.visible ? "eye" : "closed");
    part.up.disabled = number === layout.regions.length - 1;
    part.down.disabled = number === 0;
    this.score(region, part);
    const open = this.open.has(region.id);
    part.more.setAttribute("aria-expanded", String(open));
    part.detail.hidden = !open;
    grow(part.prompt);
    if (open) grow(part.negative_prompt);
  }

  // How surely its thing is in the picture on the stage; nothing where nobody can tell, or the prompt is another now.
  score(region, part) {
    const score = this.found.get(JSON.stringify([region.name, region.prompt]));
    part.score.hidden = score === undefined;
    part.row.classList.toggle("scored", score !== undefined);
    if (score === undefined) return;
    const weak = score < SURE;
    part.score.dataset.kind = weak ? "weak" : "found";
    part.score.textContent = say(`painter.row.${part.score.dataset.kind}`, { score: score.toFixed(1) });
    if (weak) this.weak.push(region.name);
    part.score.title = say("painter.row.score-title", { score: score.toFixed(2) });
  }
}

// As high as its text.
export function grow(area) {
  if (!area.offsetParent) return;
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 160)}px`;
}

function make(tag, kind) {
  const made = document.createElement(tag);
  made.className = kind;
  return made;
}

function button(kind, text, act) {
  const made = make("button", kind);
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function icon(name, act) {
  const made = button("region-icon", "", act);
  draw(made, name);
  return made;
}

function draw(box, name) {
  if (box.dataset.icon === name) return;
  box.dataset.icon = name;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  box.replaceChildren(svg);
}

function field(label, control, kind = "") {
  const made = make("label", `region-field ${kind}`);
  const text = make("span", "field-label");
  text.textContent = label;
  made.append(text, control);
  return made;
}
