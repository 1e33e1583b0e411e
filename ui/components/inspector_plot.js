// The numbers of a run over its steps: one small row each, with one cursor through all of them.

const { say } = await import(new URL(`say.js${new URL(import.meta.url).search}`, import.meta.url));

const SVG = "http://www.w3.org/2000/svg";
const [WIDE, HIGH, EDGE] = [326, 44, 5]; // of a row, in units of its own
const ROWS = [
  { key: "inspector.plots.sigma", at: 0, log: true, words: (v) => v.toPrecision(3) },
  { key: "inspector.plots.change", at: 3, log: true, words: (v) => percent(v) },
  { key: "inspector.views.guidance", at: 4, log: false, words: (v) => percent(v) },
  { key: "inspector.plots.time", at: 2, log: false, words: (v) => say("time.milliseconds", { time: v < 10 ? v.toFixed(1) : Math.round(v) }) },
];

export class Plot {
  // pick(step): somebody clicked there; steps count from 1
  constructor(box, pick) {
    this.rows = ROWS.map((row) => this.#row(box, row, pick));
    this.total = 1;
    this.step = 1;
    this.hovered = 0;
  }

  // steps, others: rows of numbers as in ui/inspection.py; others (a branch's parent) is drawn behind.
  // key: another one for other rows
  draw(key, steps, total, others = []) {
    if (key === this.key) return;
    this.key = key;
    Object.assign(this, { steps, others, total: Math.max(total, others.length) });
    for (const row of this.rows) {
      const values = [...steps, ...others].map((step) => scaled(row, step)).filter((v) => v !== null);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const range = [row.log ? low : Math.min(low, 0), high];
      row.line.setAttribute("d", this.#path(row, steps, range));
      row.behind.setAttribute("d", this.#path(row, others, range));
      row.range = range;
      row.figure.classList.toggle("none", !values.length);
    }
  }

  cursor(step) {
    this.step = step;
    this.#mark();
  }

  #mark() {
    const at = this.hovered || this.step;
    for (const row of this.rows) {
      const step = this.steps?.[at - 1];
      const value = step ? step[row.at] : null;
      const other = this.others?.[at - 1]?.[row.at];
      row.cursor.setAttribute("x1", this.#x(at));
      row.cursor.setAttribute("x2", this.#x(at));
      row.cursor.style.visibility = this.steps?.length ? "" : "hidden";
      row.dot.style.visibility = value === null || value === undefined ? "hidden" : "";
      if (value !== null && value !== undefined) {
        row.dot.setAttribute("cx", this.#x(at));
        row.dot.setAttribute("cy", y(scaled(row, step), row.range));
      }
      row.value.textContent = value === null || value === undefined ? "–" : row.words(value);
      row.value.title = other === null || other === undefined ? "" : say("inspector.parents", { value: row.words(other) });
      row.at_.textContent = this.hovered ? say("inspector.at-step", { step: at }) : "";
    }
  }

  #x(step) {
    return this.total < 2 ? WIDE / 2 : EDGE + ((step - 1) / (this.total - 1)) * (WIDE - 2 * EDGE);
  }

  #path(row, steps, range) {
    let path = "";
    steps.forEach((step, k) => {
      const value = step ? scaled(row, step) : null;
      if (value === null) return;
      path += `${path ? "L" : "M"}${this.#x(k + 1).toFixed(1)} ${y(value, range).toFixed(1)}`;
    });
    return path;
  }

  #row(box, row, pick) {
    const figure = document.createElement("figure");
    figure.className = "plot-row";
    const caption = document.createElement("figcaption");
    const title = say(row.key);
    const [name, at_, value] = [title, "", "–"].map((text, k) => {
      const part = document.createElement("span");
      part.className = ["plot-name", "plot-at", "plot-value"][k];
      part.textContent = text;
      return part;
    });
    caption.append(name, at_, value);
    const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img",
      "aria-label": say("inspector.over-steps", { title }) });
    const behind = make("path", { class: "plot-behind" });
    const line = make("path", { class: "plot-line" });
    const cursor = make("line", { class: "plot-cursor", y1: 0, y2: HIGH });
    const dot = make("circle", { class: "plot-dot", r: 2.6 });
    svg.append(behind, cursor, line, dot);
    figure.append(caption, svg);
    box.append(figure);
    const stepAt = (event) => {
      const { left, width } = svg.getBoundingClientRect();
      const part = ((event.clientX - left) / width * WIDE - EDGE) / (WIDE - 2 * EDGE);
      const reach = this.steps?.length || 0;
      return Math.min(Math.max(1 + Math.round(part * (this.total - 1)), 1), reach);
    };
    svg.addEventListener("pointermove", (event) => { this.hovered = stepAt(event); this.#mark(); });
    svg.addEventListener("pointerleave", () => { this.hovered = 0; this.#mark(); });
    svg.addEventListener("click", (event) => stepAt(event) && pick(stepAt(event)));
    return { ...row, figure, behind, line, cursor, dot, value, at_, range: [0, 1] };
  }
}

function scaled(row, step) {
  const value = step ? step[row.at] : null;
  if (value === null || value === undefined) return null;
  return row.log ? Math.log10(Math.max(value, 1e-4)) : value;
}

function y(value, [low, high]) {
  return high === low ? HIGH / 2 : HIGH - EDGE - ((value - low) / (high - low)) * (HIGH - 2 * EDGE);
}

function percent(value) {
  const shown = 100 * value;
  return `${shown < 10 ? shown.toFixed(1) : Math.round(shown)} %`;
}

function make(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
