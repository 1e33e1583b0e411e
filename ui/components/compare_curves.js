// Two plots of a comparison: distance to the reference against work, and how x0 settles. One colour for each row.

const { tag } = await import(new URL(`dom.js${new URL(import.meta.url).search}`, import.meta.url));

const SVG = "http://www.w3.org/2000/svg";
const [WIDE, HIGH] = [420, 190]; // in units of the plot's own
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 8, 30];
const painted = new WeakMap(); // box -> what it shows

export function curves(box, state) {
  const key = JSON.stringify([state.id, state.state, state.cells.map((c) => [c.distance, c.changes?.length])]);
  if (painted.get(box) === key) return;
  painted.set(box, key);
  const across = state.columns.length;
  const rows = state.rows.map((name, row) => ({
    name: name.replaceAll("\n", ", ") || "all", colour: `hsl(${Math.round((row * 360) / state.rows.length + 176)} var(--series))`,
    cells: state.grid.slice(row * across, (row + 1) * across).map((k) => state.cells[k]),
  }));
  const far = rows.map((row) => ({ ...row,
    points: row.cells.filter((c) => c.distance > 0).map((c) => [c.evaluations, c.distance]).sort((a, b) => a[0] - b[0]) }));
  const settle = rows.map((row) => {
    const last = row.cells.findLast((cell) => cell.changes?.length);
    return { ...row, points: (last?.changes || []).map((change, k) => [last.after[k + 1], change]).filter((p) => p[1] > 0) };
  });
  const parts = [];
  if (far.some((row) => row.points.length)) {
    parts.push(plot("Distance to the reference", "evaluations", far, true));
  } else if (state.exact && state.state === "running") {
    parts.push(tag("p", "Distances to the reference are measured when all cells are there.", "meta"));
  }
  if (settle.some((row) => row.points.length)) {
    const steps = state.columns.at(-1);
    parts.push(plot(`Change of x0 from step to step${steps ? `, at most steps (${steps})` : ""}`, "evaluations", settle, false));
  }
  if (parts.some((one) => one.tagName === "FIGURE")) parts.push(legend(rows));
  box.replaceChildren(...parts);
}

function plot(title, under, series, dots) {
  const all = series.flatMap((row) => row.points);
  const high = Math.max(...all.map((p) => p[0]), 1);
  const logs = all.map((p) => Math.log10(p[1]));
  const [low, top] = [Math.floor(Math.min(...logs) * 2) / 2, Math.ceil(Math.max(...logs) * 2) / 2 || 0.5];
  const x = (v) => LEFT + (v / high) * (WIDE - LEFT - RIGHT);
  const y = (v) => TOP + ((top - Math.log10(v)) / Math.max(top - low, 0.5)) * (HIGH - TOP - BOTTOM);
  const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${title}, against ${under}` });
  for (let power = low; power <= top + 0.01; power += 0.5) {
    const value = 10 ** power;
    svg.append(make("line", { class: "curve-grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value) }),
      words(LEFT - 6, y(value) + 4, "end", value >= 0.1 ? value.toPrecision(2) : value.toPrecision(1)));
  }
  for (const part of [0, 0.5, 1]) svg.append(words(x(high * part), HIGH - 14, "middle", String(Math.round(high * part))));
  svg.append(words((LEFT + WIDE) / 2, HIGH - 1, "middle", under));
  for (const { points, colour, name } of series) {
    if (!points.length) continue;
    const d = points.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
    const line = make("path", { class: "curve", d });
    line.style.stroke = colour;
    line.append(make("title", {}, name));
    svg.append(line);
    if (!dots) continue;
    for (const [a, b] of points) {
      const dot = make("circle", { r: 3.4, cx: x(a), cy: y(b) });
      dot.style.fill = colour;
      dot.append(make("title", {}, `${name}: ${a} evaluations, distance ${b.toFixed(4)}`));
      svg.append(dot);
    }
  }
  const figure = tag("figure", "", "curve-figure");
  figure.append(tag("figcaption", title), svg);
  return figure;
}

function legend(rows) {
  const list = tag("ul", "", "curve-legend");
  for (const { name, colour } of rows) {
    const item = tag("li", name);
    item.style.setProperty("--tint", colour);
    list.append(item);
  }
  return list;
}

function words(left, top, anchor, text) {
  return make("text", { class: "curve-words", x: left, y: top, "text-anchor": anchor }, text);
}

function make(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}
