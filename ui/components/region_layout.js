// The layout that is being painted: regions in painter's order (later ones over earlier ones), and its history.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { say } = await from("say.js");
const { read, write } = await from("store.js");

const COLOURS = ["#e5484d", "#30a46c", "#3e7bfa", "#f5a524", "#8e4ec6", "#12a5a0", "#e54d9b", "#8d6e4f", "#5b8c2a",
  "#c2410c"]; // as ui/composition.py
const KEPT = 100; // steps back
const KEY = "latent-loom.layout"; // the layout as it was left: this tab's (session), this browser's (local)
const LONGEST = 4096; // pixels of a side, as core.request.MAX_SIDE
const EMPTY = { prompt: "", negative_prompt: "", guidance: "", weight: "1", feather: "0" };
export const TEXTS = ["prompt", "negative_prompt", "guidance", "weight", "feather"];

export function remember(value) {
  for (const where of ["session", "local"]) write(where, KEY, value);
}

// The value of the layout that was painted last; null when there is none.
export function remembered() {
  const whole = (side) => Number.isInteger(side) && side >= 8 && side <= LONGEST;
  const sound = (value) => whole(value?.width) && whole(value.height) && Array.isArray(value.regions);
  return ["session", "local"].map((where) => read(where, KEY)).find(sound) || null;
}

export class Layout {
  // masks: the functions of region_masks.js
  constructor(masks) {
    this.masks = masks;
    this.width = this.height = 256;
    this.cell = 8; // pixels of a latent cell
    this.prompt = "";
    this.view = "paint";
    this.regions = []; // {id, name, color, ...TEXTS, visible, mask}
    this.selected = 0; // id, 0: none
    this.past = [];
    this.future = [];
    this.counter = 0;
  }

  get current() {
    return this.regions.find((region) => region.id === this.selected);
  }

  get size() {
    return this.width * this.height;
  }

  // -- value <-> layout

  value() {
    return {
      width: this.width, height: this.height, cell: this.cell, prompt: this.prompt, view: this.view,
      regions: this.regions.map(({ name, color, visible, mask, ...rest }) => ({
        name, color, ...Object.fromEntries(TEXTS.map((key) => [key, rest[key]])), visible,
        runs: this.masks.encode(mask),
      })),
    };
  }

  // A whole new layout; what was there can be brought back by undo. Masks of another size are rescaled.
  load(value, keep = true) {
    if (keep) {
      this.mark();
      this.past.at(-1).whole = true;
    }
    const [width, height] = [value.width, value.height];
    this.width = width;
    this.height = height;
    this.cell = value.cell || 8;
    this.prompt = String(value.prompt ?? "");
    this.regions = (value.regions || []).map((entry) => ({
      id: (this.counter += 1), name: String(entry.name || say("painter.name")), color: String(entry.color || COLOURS[0]),
      ...Object.fromEntries(TEXTS.map((key) => [key, String(entry[key] ?? EMPTY[key])])),
      visible: entry.visible !== false, mask: this.masks.decode(entry.runs, width, height),
    }));
    this.selected = this.regions.at(-1)?.id || 0;
  }

  resize(width, height) {
    if (width === this.width && height === this.height) return;
    this.mark();
    for (const region of this.regions) {
      region.mask = this.masks.rescale(region.mask, this.width, this.height, width, height);
    }
    this.width = width;
    this.height = height;
  }

  // -- history: shapes, order, names; what was typed since stays as it was typed

  snapshot() {
    return { width: this.width, height: this.height, prompt: this.prompt, selected: this.selected,
      regions: this.regions.map((region) => ({ ...region })) };
  }

  mark() {
    this.past.push(this.snapshot());
    if (this.past.length > KEPT) this.past.shift();
    this.future = [];
  }

  undo() {
    return this.travel(this.past, this.future);
  }

  redo() {
    return this.travel(this.future, this.past);
  }

  travel(from, to) {
    const goal = from.pop();
    if (!goal) return false;
    const now = this.snapshot();
    to.push(Object.assign(now, { whole: goal.whole }));
    const living = new Map(now.regions.map((region) => [region.id, region]));
    this.regions = goal.regions.map((region) => {
      const here = living.get(region.id);
      return here ? { ...region, ...Object.fromEntries(TEXTS.map((key) => [key, here[key]])) } : region;
    });
    if (goal.whole) this.prompt = goal.prompt;
    this.width = goal.width;
    this.height = goal.height;
    this.selected = this.regions.some((region) => region.id === goal.selected)
      ? goal.selected : this.regions.at(-1)?.id || 0;
    return true;
  }

  // -- regions

  add(mark = true) {
    if (mark) this.mark();
    const taken = new Set(this.regions.map((region) => region.color));
    const color = COLOURS.find((one) => !taken.has(one)) || COLOURS[this.regions.length % COLOURS.length];
    const region = { id: (this.counter += 1), name: this.freeName(say("painter.name")), color, ...EMPTY, visible: true,
      mask: new Uint8Array(this.size) };
    this.regions.push(region);
    this.selected = region.id;
    return region;
  }

  freeName(stem) {
    const names = new Set(this.regions.map((region) => region.name));
    let number = 1;
    while (names.has(`${stem} ${number}`)) number += 1;
    return `${stem} ${number}`;
  }

  remove(id) {
    this.mark();
    const at = this.regions.findIndex((region) => region.id === id);
    this.regions.splice(at, 1);
    if (this.selected === id) this.selected = (this.regions[at] || this.regions.at(-1))?.id || 0;
  }

  duplicate(id) {
    this.mark();
    const at = this.regions.findIndex((region) => region.id === id);
    const old = this.regions[at];
    const taken = new Set(this.regions.map((region) => region.color));
    const by = Math.round(this.width / 16);
    const made = { ...old, id: (this.counter += 1), name: this.freeName(old.name.replace(/ \d+$/, "")),
      color: COLOURS.find((one) => !taken.has(one)) || old.color,
      mask: this.masks.shift(old.mask, this.width, this.height, by, by) };
    this.regions.splice(at + 1, 0, made);
    this.selected = made.id;
  }

  // by: 1 towards the top of the pile, -1 towards its bottom
  reorder(id, by) {
    const at = this.regions.findIndex((region) => region.id === id);
    const to = at + by;
    if (to < 0 || to >= this.regions.length) return false;
    this.mark();
    const [region] = this.regions.splice(at, 1);
    this.regions.splice(to, 0, region);
    return true;
  }

  // change: fields of one region, as one step of the history
  change(id, change) {
    this.mark();
    Object.assign(this.regions.find((region) => region.id === id), change);
  }

  mirrorAll() {
    this.mark();
    for (const region of this.regions) region.mask = this.masks.mirror(region.mask, this.width);
  }

  clearAll() {
    this.mark();
    this.regions = [];
    this.selected = 0;
  }

  // Only this one, or everybody again when it is alone already.
  solo(id) {
    this.mark();
    const alone = this.regions.every((region) => region.visible === (region.id === id));
    for (const region of this.regions) region.visible = alone || region.id === id;
  }
}
