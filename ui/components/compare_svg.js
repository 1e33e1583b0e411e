// What the plots of a comparison share.

export const SVG = "http://www.w3.org/2000/svg";

export function make(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

export function words(left, top, anchor, text) {
  return make("text", { class: "curve-words", x: left, y: top, "text-anchor": anchor }, text);
}

// One for each row of the grid.
export function colour(row, rows) {
  return `hsl(${Math.round((row * 360) / rows + 176)} var(--series))`;
}

// A line and, around it, a wider one that nobody sees, so that it can be pointed at.
export function line(d, cell, tint, title, width = 1.8) {
  const group = make("g", { class: "curve-line", "data-cell": cell });
  const seen = make("path", { class: "curve", d, "stroke-width": width });
  seen.style.stroke = tint;
  group.append(make("path", { class: "curve-reach", d }), seen, make("title", {}, title));
  return group;
}

export function trail(points) {
  return points.map(([a, b], k) => `${k ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
}
