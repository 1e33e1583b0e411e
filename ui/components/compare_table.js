// The figures of all cells; a click on a column's head sorts by it.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ tag }, { say }] = await Promise.all(["dom.js", "say.js"].map(own));

// about: there is a line on it
const COLUMNS = [
  { key: "cell", of: (cell) => cell.label, text: (v) => v },
  { key: "steps", of: (cell) => cell.total || null, text: String },
  { key: "evaluations", of: (cell) => cell.evaluations || null, text: String, about: true },
  { key: "each", of: (cell) => cell.each ?? null, text: (v) => v.toFixed(4), about: true },
  { key: "total", of: (cell) => (cell.evaluations ? cell.seconds : null), text: (v) => v.toFixed(2) },
  { key: "distance", of: (cell) => cell.distance ?? null, text: (v) => v.toFixed(4), about: true },
  { key: "psnr", of: (cell) => (cell.psnr === "equal" ? Infinity : cell.psnr ?? null),
    text: (v) => (v === Infinity ? say("compare.equal") : v.toFixed(1)) },
  { key: "ssim", of: (cell) => cell.ssim ?? null, text: (v) => v.toFixed(3) },
  { key: "score", of: (cell) => cell.score ?? null, text: (v) => v.toFixed(1), about: true },
];

export class Table {
  constructor(box) {
    Object.assign(this, { box, by: -1, down: false });
  }

  forget() {
    this.by = -1;
    this.key = "";
  }

  paint(state) {
    this.state = state;
    const key = JSON.stringify([state.id, this.by, this.down, state.cells.map((c) => COLUMNS.map(({ of }) => of(c)))]);
    if (key === this.key) return;
    this.key = key;
    const columns = COLUMNS.filter(({ of }) => state.cells.some((cell) => of(cell) !== null));
    if (!state.cells.some((cell) => cell.evaluations)) {
      this.box.replaceChildren();
      return;
    }
    const focused = document.activeElement?.dataset?.sort; // the heads are made anew: the keyboard stays where it was
    const head = tag("tr", "");
    for (const column of columns) head.append(this.#head(column));
    const body = this.#sorted(state.cells).map((cell) => {
      const row = tag("tr", "");
      row.dataset.cell = String(state.cells.indexOf(cell));
      for (const { of, text } of columns) row.append(tag("td", of(cell) === null ? "–" : text(of(cell))));
      return row;
    });
    const [top, rest] = [tag("thead", ""), tag("tbody", "")];
    top.append(head);
    rest.append(...body);
    this.box.replaceChildren(top, rest);
    if (focused !== undefined) this.box.querySelector(`[data-sort="${focused}"]`)?.focus();
  }

  #sorted(cells) {
    if (this.by < 0) return cells;
    const { of } = COLUMNS[this.by];
    const [known, none] = [cells.filter((c) => of(c) !== null), cells.filter((c) => of(c) === null)];
    known.sort((a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0) * (this.down ? -1 : 1));
    return [...known, ...none];
  }

  #head(column) {
    const index = COLUMNS.indexOf(column);
    const head = tag("th", "");
    head.scope = "col";
    const face = tag("button", say(`compare.columns.${column.key}`));
    face.type = "button";
    face.dataset.sort = String(index);
    if (column.about) face.title = say(`compare.about-columns.${column.key}`);
    const mine = this.by === index;
    head.setAttribute("aria-sort", !mine ? "none" : this.down ? "descending" : "ascending");
    face.addEventListener("click", () => {
      this.down = mine ? !this.down : false;
      this.by = index;
      this.paint(this.state);
    });
    head.append(face);
    return head;
  }
}
