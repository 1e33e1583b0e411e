// Masks as Uint8Array, one byte a pixel, row by row; 1 is painted. Everything here is exact: no soft edges.
// As text they are core.masks.Mask's runs: lengths of unpainted and painted stretches in turn.

export function decode(runs, width, height) {
  const mask = new Uint8Array(width * height);
  let at = 0;
  let paint = false;
  for (const part of String(runs || "").split(" ")) {
    const length = Number(part);
    if (!Number.isInteger(length) || length < 0) return new Uint8Array(width * height);
    if (paint) mask.fill(1, at, at + length);
    at += length;
    paint = !paint;
  }
  return at === mask.length ? mask : new Uint8Array(width * height);
}

const known = new WeakMap(); // masks never change once they stand in the layout

export function encode(mask) {
  if (!known.has(mask)) known.set(mask, runsOf(mask));
  return known.get(mask);
}

function runsOf(mask) {
  const runs = [];
  let paint = 0;
  let from = 0;
  for (let at = 0; at < mask.length; at += 1) {
    if (mask[at] === paint) continue;
    runs.push(at - from);
    from = at;
    paint = mask[at];
  }
  runs.push(mask.length - from);
  return runs.join(" ");
}

// The same shape at another size, by the nearest pixel; ui/composition.py does the same.
export function rescale(mask, width, height, toWidth, toHeight) {
  const made = new Uint8Array(toWidth * toHeight);
  for (let y = 0; y < toHeight; y += 1) {
    const row = Math.floor(((y + 0.5) * height) / toHeight) * width;
    for (let x = 0; x < toWidth; x += 1) made[y * toWidth + x] = mask[row + Math.floor(((x + 0.5) * width) / toWidth)];
  }
  return made;
}

export function mirror(mask, width) {
  const made = new Uint8Array(mask.length);
  for (let row = 0; row < mask.length; row += width) {
    for (let x = 0; x < width; x += 1) made[row + x] = mask[row + width - 1 - x];
  }
  return made;
}

export function shift(mask, width, height, byX, byY) {
  const made = new Uint8Array(mask.length);
  const left = Math.max(0, byX);
  const right = Math.min(width, width + byX);
  for (let y = Math.max(0, byY); y < Math.min(height, height + byY); y += 1) {
    const from = (y - byY) * width - byX;
    if (right > left) made.set(mask.subarray(from + left, from + right), y * width + left);
  }
  return made;
}

// Paint (value 1) or erase (0) everything within `radius` of the way from a to b. Returns the rows it may have touched.
export function stroke(mask, width, height, a, b, radius, value) {
  const reach = Math.max(radius, 0.5);
  const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - reach));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(a.y, b.y) + reach));
  const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - reach));
  const right = Math.min(width - 1, Math.ceil(Math.max(a.x, b.x) + reach));
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length = dx * dx + dy * dy;
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) {
      const px = x + 0.5 - a.x;
      const py = y + 0.5 - a.y;
      const along = length ? Math.min(Math.max((px * dx + py * dy) / length, 0), 1) : 0;
      const gapX = px - along * dx;
      const gapY = py - along * dy;
      if (gapX * gapX + gapY * gapY <= reach * reach) mask[y * width + x] = value;
    }
  }
  return [top, bottom];
}

// The pixels whose centres lie in the box between two corners.
export function box(mask, width, height, a, b) {
  const made = mask.slice();
  const [left, right] = span(a.x, b.x, width);
  const [top, bottom] = span(a.y, b.y, height);
  for (let y = top; y < bottom; y += 1) made.fill(1, y * width + left, y * width + right);
  return made;
}

function span(a, b, limit) {
  const clip = (v) => Math.min(Math.max(Math.round(v), 0), limit);
  const [low, high] = [clip(Math.min(a, b)), clip(Math.max(a, b))];
  return [low, Math.max(high, low)];
}

// The inside of a closed path, even-odd, by pixel centres.
export function lasso(mask, width, height, path) {
  const made = mask.slice();
  for (let y = 0; y < height; y += 1) {
    const crossings = [];
    for (let k = 0; k < path.length; k += 1) {
      const a = path[k];
      const b = path[(k + 1) % path.length];
      if (a.y <= y + 0.5 === b.y <= y + 0.5) continue;
      crossings.push(a.x + ((y + 0.5 - a.y) / (b.y - a.y)) * (b.x - a.x));
    }
    crossings.sort((p, q) => p - q);
    for (let k = 0; k + 1 < crossings.length; k += 2) {
      const [left, right] = span(crossings[k], crossings[k + 1], width);
      made.fill(1, y * width + left, y * width + right);
    }
  }
  return made;
}

// The connected pixels around (x, y) that the same owner rules, added to the mask.
export function flood(mask, owners, width, height, x, y) {
  const made = mask.slice();
  const owner = owners[y * width + x];
  const seen = new Uint8Array(mask.length);
  const open = [y * width + x];
  seen[open[0]] = 1;
  while (open.length) {
    const at = open.pop();
    made[at] = 1;
    const column = at % width;
    const near = [at - width, at + width, column ? at - 1 : -1, column < width - 1 ? at + 1 : -1];
    for (const next of near) {
      if (next < 0 || next >= mask.length || seen[next] || owners[next] !== owner) continue;
      seen[next] = 1;
      open.push(next);
    }
  }
  return made;
}

// Who rules each pixel: the number of the last mask that has it, -1 for nobody. depth: how many have it.
export function owners(masks, size) {
  const owner = new Int16Array(size).fill(-1);
  const depth = new Uint8Array(size);
  masks.forEach((mask, k) => {
    if (!mask) return;
    for (let at = 0; at < size; at += 1) {
      if (!mask[at]) continue;
      owner[at] = k;
      depth[at] += 1;
    }
  });
  return { owner, depth };
}

// For each of `count` owners the place of its name: the ruled pixel nearest to its centre. null: rules nothing.
export function places(owner, width, count) {
  const sums = Array.from({ length: count }, () => ({ x: 0, y: 0, n: 0 }));
  for (let at = 0; at < owner.length; at += 1) {
    const sum = sums[owner[at]];
    if (!sum) continue;
    sum.x += at % width;
    sum.y += Math.floor(at / width);
    sum.n += 1;
  }
  const best = sums.map((sum) => sum.n && { x: sum.x / sum.n, y: sum.y / sum.n, gap: Infinity, n: sum.n });
  const found = best.map((centre) => (centre ? { ...centre } : null));
  for (let at = 0; at < owner.length; at += 1) {
    const centre = best[owner[at]];
    if (!centre) continue;
    const x = at % width;
    const y = Math.floor(at / width);
    const gap = (x - centre.x) ** 2 + (y - centre.y) ** 2;
    if (gap < found[owner[at]].gap) found[owner[at]] = { x: x + 0.5, y: y + 0.5, gap, n: centre.n };
  }
  return found;
}

export function bare(mask) {
  return !mask.includes(1);
}
