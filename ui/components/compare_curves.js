// Two plots of a comparison: distance to the reference against work, and how x0 settles. One colour for each row.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ tag }, { say }, { colour, line, make, trail, words }] = await Promise.all(["dom.js", "say.js", "compare_svg.js"].map(own));

const [WIDE, HIGH] = [420, 190]; // in units of the plot's own
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 8, 30];
const painted = new WeakMap(); // box -> what it shows

// box: of the plots; names: of the rows' legend
export function curves(box, names, state) {
  const key = JSON.stringify([state.id, state.state, state.cells.map((c) => [c.distance, c.changes?.length]), state.planes.length]);
  if (painted.get(box) === key) return;
  painted.set(box, key);
  const across = state.columns.length;
  const rows = state.rows.map((name, row) => ({
    name: name.replaceAll("\n", say("common.comma")) || say("compare.all"), tint: colour(row, state.rows.length),
    cells: state.grid.slice(row * across, (row + 1) * across).map((k) => ({ ...state.cells[k], k })),
  }));
  const far = rows.map(({ name, tint, cells }) => ({ name, tint, cell: cells.map(({ k }) => k).join(" "),
    points: cells.filter((c) => c.distance > 0).map((c) => [c.evaluations, c.distance, c.k, c.label]).sort((a, b) => a[0] - b[0]) }));
  const settle = rows.map(({ name, tint, cells }) => {
    const last = cells.findLast((cell) => cell.changes?.length);
    return { name: last?.label || name, tint, cell: last?.k ?? "",
      points: (last?.changes || []).map((change, k) => [last.after[k + 1], change]).filter((p) => p[1] > 0) };
  });
  const parts = [];
  if (far.some((row) => row.points.length)) {
    parts.push(plot(say("compare.distance-to"), far, true));
  } else if (state.exact && state.state === "running") {
    parts.push(tag("p", say("compare.distances-later"), "meta"));
  }
  if (settle.some((row) => row.points.length)) {
    const steps = state.columns.length > 1 ? state.columns.at(-1) : "";
    parts.push(plot(say(steps ? "compare.change-at" : "compare.change", { steps }), settle, false));
  }
  box.replaceChildren(...parts);
  const plots = parts.some((one) => one.tagName === "FIGURE") || state.planes.length;
  names.replaceChildren(...(plots ? [legend(rows)] : []));
}

function plot(title, series, dots) {
  const under = say("compare.evaluations");
  const all = series.flatMap((row) => row.points);
  const high = Math.max(...all.map((p) => p[0]), 1);
  const logs = all.map((p) => Math.log10(p[1]));
  const [low, top] = [Math.floor(Math.min(...logs) * 2) / 2, Math.ceil(Math.max(...logs) * 2) / 2 || 0.5];
  const x = (v) => LEFT + (v / high) * (WIDE - LEFT - RIGHT);
  const y = (v) => TOP + ((top - Math.log10(v)) / Math.max(top - low, 0.5)) * (HIGH - TOP - BOTTOM);
  const svg = make("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": say("compare.against", { title, under }) });
  for (let power = low; power <= top + 0.01; power += 0.5) {
    const value = 10 ** power;
    svg.append(make("line", { class: "curve-grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(value), y2: y(value) }),
      words(LEFT - 6, y(value) + 4, "end", value >= 0.1 ? value.toPrecision(2) : value.toPrecision(1)));
  }
  for (const part of [0, 0.5, 1]) svg.append(words(x(high * part), HIGH - 14, "middle", String(Math.round(high * part))));
  svg.append(words((LEFT + WIDE) / 2, HIGH - 1, "middle", under));
  for (const { points, tint, name, cell } of series) {
    if (points.length) svg.append(line(trail(points.map(([a, b]) => [x(a), y(b)])), cell, tint, name));
    for (const [a, b, k, label] of dots ? points : []) {
      const dot = make("circle", { class: "curve-dot", r: 3.4, cx: x(a), cy: y(b), "data-cell": k });
      dot.style.fill = tint;
      dot.append(make("title", {}, say("compare.dot", { cell: label, count: a, distance: b.toFixed(4) })));
      svg.append(dot);
    }
  }
  const figure = tag("figure", "", "curve-figure");
  figure.append(tag("figcaption", title), svg);
  return figure;
}

function legend(rows) {
  const list = tag("ul", "", "curve-legend");
  for (const { name, tint } of rows) {
    const item = tag("li", name);
    item.style.setProperty("--tint", tint);
    list.append(item);
  }
  return list;
}
