// The grid of cells: rows as asked for, a column for each number of steps, every cell live.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ seconds, tag }, { Frames }, { say }] = await Promise.all(["dom.js", "frames.js", "say.js"].map(own));

export class Tiles {
  // pick(k, left): cell number k was clicked; left: with Shift
  constructor(box, pick) {
    Object.assign(this, { box, pick, tiles: [], places: [] });
  }

  build(state) {
    this.runs = state.cells.map(() => ({ job: "", frames: new Frames("") }));
    this.box.replaceChildren();
    this.tiles = [];
    if (!state.cells.length) return;
    this.box.style.setProperty("--columns", String(state.columns.length));
    this.box.style.setProperty("--shape", `${state.width} / ${state.height}`);
    this.box.append(tag("span", "", "tiles-corner"));
    for (const name of state.columns) this.box.append(tag("span", name, "tiles-column"));
    const across = state.columns.length;
    this.box.classList.toggle("single", across === 1); // a row would be one picture: they stand side by side
    state.rows.forEach((name, row) => {
      const line = across === 1 ? tag("div", "", "tiles-one") : this.box;
      line.append(tag("span", name, "tiles-row"));
      for (let column = 0; column < across; column += 1) line.append(this.#tile(state.grid[row * across + column]));
      if (across === 1) this.box.append(line);
    });
  }

  // at: where the scrubber stands, of `most`; 0: the newest
  paint(state, at, most) {
    this.state = state;
    this.at = at;
    this.most = most;
    state.cells.forEach((cell, k) => {
      const run = this.runs[k];
      if (cell.job && run.job !== cell.job) this.runs[k] = { job: cell.job, frames: new Frames(cell.frames) };
      this.runs[k].frames.without = new Set((cell.without || "").split(" ").filter(Boolean).map((index) => Number(index) + 1));
      for (let step = 1; step <= cell.taken; step += 1) this.runs[k].frames.step(step, 0);
      if (cell.result) this.runs[k].frames.load(cell.result);
    });
    for (const tile of this.tiles) this.#paintTile(tile, state.cells[tile.k]);
  }

  // What cell k shows now: {step, seen, final}. seen: the newest step up to `step` with a preview; 0: none
  showing(k) {
    const cell = this.state.cells[k];
    const there = Math.min(cell.taken, Math.max(1, Math.ceil((this.at * cell.total) / this.most)));
    const step = this.at ? there : cell.taken;
    return { step, seen: this.runs[k].frames.before(step), final: !this.at && cell.state === "done" };
  }

  // Draw what cell k shows onto a canvas, as soon as it is loaded.
  async draw(canvas, k) {
    const cell = this.state.cells[k];
    const { seen, final } = this.showing(k);
    const key = `${cell.job}/${final ? "result" : seen}`;
    if (canvas.getAttribute("role")) canvas.setAttribute("aria-label", this.name(k));
    if (!seen && !final) {
      if (canvas.dataset.key && !canvas.dataset.key.startsWith(`${cell.job}/`)) blank(canvas);
      return;
    }
    if (canvas.dataset.key === key) return;
    canvas.dataset.key = key;
    const { frames } = this.runs[k];
    const image = final && cell.result ? await frames.load(cell.result) : await frames.step(seen, 0);
    if (!image || canvas.dataset.key !== key) return;
    if (canvas.width !== image.naturalWidth || canvas.height !== image.naturalHeight) {
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
    }
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.dataset.shown = key;
  }

  name(k) {
    const cell = this.state.cells[k];
    const { step, seen, final } = this.showing(k);
    if (final) return say("compare.finished", { cell: cell.label });
    if (!step) return say("compare.nothing", { cell: cell.label });
    return say("inspector.shown", { what: cell.label, step: seen || step, total: cell.total });
  }

  #tile(k) {
    const face = tag("button", "", "tile");
    face.type = "button";
    face.dataset.cell = String(k);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true"); // the button says what it shows
    const words = tag("span", "", "tile-words");
    const caption = tag("span", "", "tile-caption");
    const mat = tag("span", "", "tile-mat");
    mat.append(canvas, words);
    face.append(mat, caption);
    face.addEventListener("click", (event) => this.pick(k, event.shiftKey));
    this.tiles.push({ k, face, canvas, words, caption });
    return face;
  }

  #paintTile({ k, face, canvas, words, caption }, cell) {
    face.dataset.state = cell.state;
    const line = cell.error || (cell.state === "stopped" && !cell.taken ? say("compare.cell-stopped") : "");
    const shown = this.showing(k);
    const blind = this.at && shown.step && !shown.seen && cell.state !== "running" ? say("compare.no-preview") : "";
    const idle = cell.taken || cell.state !== "waiting" ? ""
      : say(this.state.state === "running" ? "compare.waiting" : "compare.not-made");
    words.textContent = line || blind || idle;
    words.classList.toggle("bad", Boolean(cell.error));
    this.draw(canvas, k);
    const { step } = shown;
    const work = cell.evaluations ? ` · ${say("compare.ev", { count: cell.evaluations })} · ${seconds(cell.seconds)}` : "";
    caption.textContent = cell.taken ? `${say("compare.of", { step, total: cell.total })}${work}`
      : cell.total ? say("inspector.steps", { n: cell.total }) : "";
    face.setAttribute("aria-label", cell.error ? say("compare.flagged", { cell: this.name(k), text: cell.error }) : this.name(k));
  }
}

function blank(canvas) {
  if (!canvas.dataset.key) return;
  canvas.dataset.key = canvas.dataset.shown = "";
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}
