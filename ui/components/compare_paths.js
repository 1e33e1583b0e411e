// The paths of x0 in the plane in which the finished cells differ most, each marked where the scrubber stands.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ tag }, { say }, { colour, line, make, trail, words }] = await Promise.all(["dom.js", "say.js", "compare_svg.js"].map(own));

const [WIDE, HIGH, EDGE] = [420, 300, 14]; // in units of the plot's own; flat paths take less height
const [LEAST, BAR] = [110, 14]; // height of the paths, at least, and of the bar below them
const [THIN, THICK] = [1.2, 2.4]; // of a line with the first column's steps, and with the last one's

export class Paths {
  // step(k): where cell number k stands; again(): paints the board
  constructor(box, step, again) {
    Object.assign(this, { box, step, again, chosen: 0, key: "", marks: [] });
  }

  forget() {
    this.chosen = 0;
  }

  // part: of their way, where the slider stands
  paint(state, part) {
    const key = JSON.stringify([state.id, state.planes.map((plane) => [plane.share, plane.paths.length]), this.chosen]);
    if (key !== this.key) {
      this.key = key;
      this.#draw(state);
    }
    for (const { path, places, mark } of this.marks) {
      const wanted = path.cell >= 0 ? this.step(path.cell) : Math.max(1, Math.ceil(part * path.steps.at(-1)));
      const at = path.steps.findLastIndex((step) => step <= wanted);
      const [x, y] = places[Math.max(at, 0)];
      mark.setAttribute("cx", x.toFixed(1));
      mark.setAttribute("cy", y.toFixed(1));
      mark.dataset.step = String(path.steps[Math.max(at, 0)]);
    }
  }

  #draw(state) {
    this.marks = [];
    if (!state.planes.length) {
      this.box.replaceChildren();
      return;
    }
    const plane = state.planes[Math.min(this.chosen, state.planes.length - 1)];
    const { places, bar, high } = placed(plane.paths);
    const cells = plane.paths.filter((path) => path.cell >= 0).length;
    const svg = make("svg", { viewBox: `0 0 ${WIDE} ${high}`, role: "img",
      "aria-label": say("compare.paths-of", { count: cells }) });
    const across = state.columns.length;
    const marks = [];
    plane.paths.forEach((path, k) => {
      const place = state.grid.indexOf(path.cell);
      const reference = path.cell < 0;
      const tint = reference ? "var(--quiet)" : colour(Math.floor(place / across), state.rows.length);
      const title = reference ? say("compare.reference-of", { count: path.steps.at(-1) }) : state.cells[path.cell].label;
      const width = reference ? THIN : across < 2 ? 1.8 : THIN + ((THICK - THIN) * (place % across)) / (across - 1);
      const drawn = line(trail(places[k]), reference ? "" : path.cell, tint, title, width.toFixed(2));
      if (reference) drawn.classList.add("curve-reference");
      const [x, y] = places[k][0];
      const first = make("circle", { class: "curve-first", r: 2.6, cx: x.toFixed(1), cy: y.toFixed(1) });
      const mark = make("circle", { class: "curve-dot curve-at", r: reference ? 2.8 : 4.2, "data-cell": reference ? "" : path.cell });
      [first.style.stroke, mark.style.fill] = [tint, tint];
      mark.append(make("title", {}, title));
      drawn.append(first);
      svg.append(drawn);
      marks.push(mark);
      this.marks.push({ path, places: places[k], mark });
    });
    svg.append(...marks); // above all lines
    svg.append(make("line", { class: "curve-scale", x1: EDGE, x2: EDGE + bar.wide, y1: high - 6, y2: high - 6 }),
      words(EDGE + bar.wide + 6, high - 2, "start", bar.value));
    const figure = tag("figure", "", "curve-figure");
    const head = tag("figcaption", say("compare.paths"));
    if (state.planes.length > 1) head.append(this.#choice(state));
    figure.append(head, svg, tag("p", sentence(plane), "meta"));
    this.box.replaceChildren(figure);
  }

  #choice(state) {
    const choice = tag("select", "", "quiet preset");
    choice.setAttribute("aria-label", say("compare.plane-of"));
    state.planes.forEach((plane, k) => {
      const option = tag("option", plane.words);
      option.value = String(k);
      choice.append(option);
    });
    choice.value = String(this.chosen);
    choice.addEventListener("change", () => {
      this.chosen = Number(choice.value);
      this.again();
      this.box.querySelector("select")?.focus();
    });
    return choice;
  }
}

function sentence({ share, paths }) {
  const reference = paths.some((path) => path.cell < 0) ? say("compare.dashed") : "";
  return say("compare.about-paths", { share: percent(share), reference });
}

function percent(share) {
  return `${share > 0.995 && share < 1 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
}

// Places in the plot's units, at one scale for both directions, and the bar that tells it.
function placed(paths) {
  const all = paths.flatMap((path) => path.places);
  const [left, right] = bounds(all.map(([x]) => x));
  const [low, high] = bounds(all.map(([, y]) => y));
  const room = [WIDE - 2 * EDGE, HIGH - 2 * EDGE - BAR];
  const scale = Math.min(room[0] / (right - left || 1), room[1] / (high - low || 1));
  const tall = Math.max(scale * (high - low), LEAST);
  const [x0, y0] = [EDGE + (room[0] - scale * (right - left)) / 2, EDGE + (tall - scale * (high - low)) / 2];
  const places = paths.map((path) => path.places.map(([x, y]) => [x0 + scale * (x - left), y0 + scale * (high - y)]));
  const most = 90 / scale; // the longest bar, in latents
  const power = 10 ** Math.floor(Math.log10(most));
  const value = [5, 2, 1].find((times) => times * power <= most) * power;
  return { places, bar: { wide: scale * value, value: String(Number(value.toPrecision(2))) }, high: tall + 2 * EDGE + BAR };
}

function bounds(values) {
  return [Math.min(...values), Math.max(...values)];
}
