// Draws the layout: picture beneath, regions in painter's order, names, and what the tool in hand is about to do.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { say } = await from("say.js");

const PAINT = 0.62; // opacity of paint on bare ground
const OVER_PICTURE = 0.5; // and over a picture
const LONGEST = 34; // characters of a label

export class View {
  constructor(canvas, layout, masks) {
    Object.assign(this, { canvas, layout, masks });
    this.context = canvas.getContext("2d");
    this.stack = document.createElement("canvas"); // all paint, at the picture's size
    this.layers = new WeakMap(); // mask -> its paint
    this.picture = null; // <img> that grows on the stage
    this.beneath = true;
    this.cells = null; // {width, height, weights: [bytes of region 0 (the rest), 1, ...]} from the server
    this.draft = null; // {id, mask}: what is being painted now
    this.gesture = null; // {kind, ...}: cursor, box, path
    this.owner = null;
    this.waiting = false;
  }

  get scale() {
    return this.canvas.width / this.layout.width;
  }

  // masks, order or colours changed
  changed() {
    const { layout } = this;
    const found = this.masks.owners(layout.regions.map((r) => (r.visible ? r.mask : null)), layout.size);
    this.owner = found.owner;
    this.depth = found.depth;
    this.places = this.masks.places(found.owner, layout.width, layout.regions.length);
    this.overlap = null;
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  fit() {
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * dense));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * dense));
    if (this.canvas.width === width && this.canvas.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.later();
  }

  draw() {
    const { context, canvas, layout } = this;
    const style = getComputedStyle(canvas);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue("--paper") || "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const under = this.beneath && this.fits(this.picture);
    if (under) context.drawImage(this.picture, 0, 0, canvas.width, canvas.height);
    if (layout.view === "cells") this.drawCells();
    else {
      const drawn = this.draft && this.stacked === this.draft.mask; // then only what was painted since is new
      const rows = drawn ? this.draft.mask.fresh : null;
      paintStack(this.stack, layout, (region) => this.maskOf(region), this.layers, rows);
      this.stacked = this.draft?.mask;
      context.globalAlpha = layout.view === "overlap" ? 0.25 : under ? OVER_PICTURE : PAINT;
      context.imageSmoothingEnabled = true;
      context.drawImage(this.stack, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
      if (layout.view === "overlap") this.drawOverlap(style);
      else if (!this.draft) this.drawOutline(style);
    }
    if (!this.draft && !this.gesture?.hidesNames) this.drawNames();
    if (this.gesture) this.drawGesture(style);
  }

  // A picture of another shape tells nothing about this layout.
  fits(picture) {
    const { width, height } = this.layout;
    if (!picture?.naturalWidth) return false;
    return Math.abs((picture.naturalWidth * height) / (picture.naturalHeight * width) - 1) < 0.02;
  }

  maskOf(region) {
    return this.draft && this.draft.id === region.id ? this.draft.mask : region.mask;
  }

  // The edge of the region in hand, also where others cover it.
  drawOutline() {
    const region = this.layout.current;
    if (!region || !region.visible) return;
    const edges = edgesOf(region.mask, this.layout.width, this.layout.height);
    const { context, scale } = this;
    const path = new Path2D();
    for (const [x0, y0, x1, y1] of edges) {
      path.moveTo(x0 * scale, y0 * scale);
      path.lineTo(x1 * scale, y1 * scale);
    }
    context.lineCap = "square";
    for (const [colour, width] of [["rgba(0,0,0,.55)", 3], ["#fff", 1.4]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * Math.min(window.devicePixelRatio || 1, 2);
      context.stroke(path);
    }
  }

  // As the network will see it: one colour a latent cell, mixed by the regions' shares, from core.layout.
  drawCells() {
    const { context, canvas, layout, cells } = this;
    if (!cells || !cells.weights.length) return;
    const image = new ImageData(cells.width, cells.height);
    const tints = cells.colours.map(rgb);
    for (let at = 0; at < cells.width * cells.height; at += 1) {
      let [r, g, b, painted] = [0, 0, 0, 0];
      tints.forEach((tint, k) => {
        const share = cells.weights[k + 1][at] / 255;
        r += share * tint[0];
        g += share * tint[1];
        b += share * tint[2];
        painted += share;
      });
      if (painted > 0) image.data.set([r / painted, g / painted, b / painted, Math.min(painted, 1) * 190], at * 4);
    }
    const small = document.createElement("canvas");
    small.width = cells.width;
    small.height = cells.height;
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const step = layout.cell * this.scale;
    context.strokeStyle = "rgba(127,127,127,.28)";
    context.lineWidth = 1;
    context.beginPath();
    for (let x = step; x < canvas.width - 1; x += step) {
      context.moveTo(Math.round(x) + 0.5, 0);
      context.lineTo(Math.round(x) + 0.5, canvas.height);
    }
    for (let y = step; y < canvas.height - 1; y += step) {
      context.moveTo(0, Math.round(y) + 0.5);
      context.lineTo(canvas.width, Math.round(y) + 0.5);
    }
    context.stroke();
  }

  // Hatching: where nobody painted (grey) and where regions lie over each other (warm).
  drawOverlap(style) {
    const { context, canvas, layout } = this;
    const warm = style.getPropertyValue("--overlap") || "#c2410c";
    const bare = style.getPropertyValue("--bare") || "#777";
    for (const [colour, test, slope] of [[bare, (d) => d === 0, 1], [warm, (d) => d > 1, -1]]) {
      const shape = document.createElement("canvas");
      shape.width = layout.width;
      shape.height = layout.height;
      const image = new ImageData(layout.width, layout.height);
      for (let at = 0; at < layout.size; at += 1) image.data[at * 4 + 3] = test(this.depth[at]) ? 255 : 0;
      shape.getContext("2d").putImageData(image, 0, 0);
      const sheet = document.createElement("canvas");
      sheet.width = canvas.width;
      sheet.height = canvas.height;
      const paper = sheet.getContext("2d");
      paper.strokeStyle = colour;
      paper.globalAlpha = slope < 0 ? 1 : 0.45;
      paper.lineWidth = slope < 0 ? 4 : 1.2;
      for (let at = -canvas.height; at < canvas.width + canvas.height; at += 11) {
        paper.beginPath();
        paper.moveTo(at, 0);
        paper.lineTo(at + slope * canvas.height, canvas.height);
        paper.stroke();
      }
      paper.globalCompositeOperation = "destination-in";
      paper.drawImage(shape, 0, 0, sheet.width, sheet.height);
      context.drawImage(sheet, 0, 0);
    }
  }

  drawNames() {
    const { layout, canvas } = this;
    this.taken = [];
    layout.regions.forEach((region, k) => {
      const place = this.places?.[k];
      if (place) this.label(region.name, region.prompt, region.color, place.x * this.scale, place.y * this.scale);
    });
    const bare = this.owner ? this.owner.reduce((sum, owner) => sum + (owner < 0), 0) / layout.size : 1;
    if (layout.regions.length && bare > 0.04) {
      this.label(say("painter.rest-short"), layout.prompt, "", 8, canvas.height - 8, true);
    }
  }

  label(name, prompt, colour, x, y, corner = false) {
    const { context, canvas } = this;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const clean = prompt.replace(/\s+/g, " ").trim();
    const text = clean.length > LONGEST ? `${clean.slice(0, LONGEST - 1)}…` : clean;
    const font = (weight) => `${weight} ${12 * dense}px system-ui, sans-serif`;
    context.font = font(650);
    const first = name.length > LONGEST ? `${name.slice(0, LONGEST - 1)}…` : name;
    const nameWidth = context.measureText(first).width;
    context.font = font(450);
    const gap = text ? 7 * dense : 0;
    const dot = colour ? 14 * dense : 0;
    const room = canvas.width - 8 * dense;
    const all = Math.min(nameWidth + gap + context.measureText(text).width + dot + 16 * dense, room);
    const high = 22 * dense;
    const left = corner ? x : Math.min(Math.max(x - all / 2, 4 * dense), Math.max(canvas.width - all - 4 * dense, 0));
    const top = this.free(left, all, high, corner ? y - high : y - high / 2, 4 * dense);
    context.save();
    context.fillStyle = "rgba(20,20,18,.78)";
    context.beginPath();
    context.roundRect(left, top, all, high, 6 * dense);
    context.fill();
    context.clip();
    if (colour) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(left + 12 * dense, top + high / 2, 4.5 * dense, 0, 7);
      context.fill();
    }
    context.textBaseline = "middle";
    context.fillStyle = "#fff";
    context.font = font(650);
    context.fillText(first, left + dot + 8 * dense, top + high / 2 + dense / 2);
    context.fillStyle = "rgba(255,255,255,.82)";
    context.font = font(450);
    context.fillText(text, left + dot + 8 * dense + nameWidth + gap, top + high / 2 + dense / 2);
    context.restore();
  }

  // The nearest height at which a label stands on no other one.
  free(left, wide, high, top, edge) {
    const clip = (y) => Math.min(Math.max(y, edge), Math.max(this.canvas.height - high - edge, edge));
    const clash = (y) => this.taken.some((one) => left < one.left + one.wide && one.left < left + wide
      && y < one.top + high && one.top < y + high);
    const tries = [0, 1, -1, 2, -2, 3, -3].map((by) => clip(top + by * (high + edge)));
    const found = tries.find((y) => !clash(y)) ?? clip(top);
    this.taken.push({ left, wide, top: found });
    return found;
  }

  drawGesture() {
    const { context, gesture, scale } = this;
    const path = new Path2D();
    if (gesture.kind === "cursor") path.arc(gesture.x * scale, gesture.y * scale, gesture.radius * scale, 0, 7);
    else if (gesture.kind === "box") {
      const { a, b } = gesture;
      path.rect(a.x * scale, a.y * scale, (b.x - a.x) * scale, (b.y - a.y) * scale);
    } else gesture.path.forEach((p, k) => path[k ? "lineTo" : "moveTo"](p.x * scale, p.y * scale));
    if (gesture.fill) {
      context.globalAlpha = 0.35;
      context.fillStyle = gesture.fill;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
    }
    for (const [colour, width] of [["rgba(0,0,0,.6)", 3], ["#fff", 1.3]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke(path);
    }
  }
}

// All paint of a layout, opaque, later regions over earlier ones, at the picture's size. rows: only from .. to.
export function paintStack(stack, layout, maskOf, layers, rows = null) {
  if (stack.width !== layout.width || stack.height !== layout.height) {
    stack.width = layout.width;
    stack.height = layout.height;
  }
  const context = stack.getContext("2d");
  const [top, high] = rows ? [rows[0], rows[1] - rows[0] + 1] : [0, stack.height];
  context.clearRect(0, top, stack.width, high);
  for (const region of layout.regions) {
    if (!region.visible) continue;
    context.drawImage(layerOf(maskOf(region), region.color, layout, layers), 0, top, stack.width, high, 0, top,
      stack.width, high);
  }
}

// A mask's paint, made once for each mask and colour; while it is being painted (`fresh` rows) only those rows anew.
function layerOf(mask, colour, layout, layers) {
  let layer = layers.get(mask);
  if (!layer || layer.colour !== colour || layer.canvas.width !== layout.width) {
    const canvas = document.createElement("canvas");
    canvas.width = layout.width;
    canvas.height = layout.height;
    layer = { canvas, colour, rows: [0, layout.height - 1] };
    layers.set(mask, layer);
  }
  if (mask.fresh) {
    layer.rows = mask.fresh;
    mask.fresh = null;
  }
  if (layer.rows) {
    const [top, bottom] = layer.rows;
    const [r, g, b] = rgb(colour);
    const image = new ImageData(layout.width, bottom - top + 1);
    const from = top * layout.width;
    for (let at = 0; at < image.width * image.height; at += 1) {
      if (mask[from + at]) image.data.set([r, g, b, 255], at * 4);
    }
    layer.canvas.getContext("2d").putImageData(image, 0, top);
    layer.rows = null;
  }
  return layer.canvas;
}

function rgb(colour) {
  const value = /^#[0-9a-f]{6}$/i.test(colour) ? parseInt(colour.slice(1), 16) : 0x888888;
  return [value >> 16, (value >> 8) & 255, value & 255];
}

const outlines = new WeakMap();

// The border of a mask as straight pieces [x0, y0, x1, y1] between pixels.
function edgesOf(mask, width, height) {
  if (outlines.has(mask)) return outlines.get(mask);
  const edges = [];
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : mask[y * width + x]);
  for (let y = 0; y <= height; y += 1) {
    let from = -1;
    for (let x = 0; x <= width; x += 1) {
      const edge = x < width && at(x, y) !== at(x, y - 1);
      if (edge && from < 0) from = x;
      if (!edge && from >= 0) {
        edges.push([from, y, x, y]);
        from = -1;
      }
    }
  }
  for (let x = 0; x <= width; x += 1) {
    let from = -1;
    for (let y = 0; y <= height; y += 1) {
      const edge = y < height && at(x, y) !== at(x - 1, y);
      if (edge && from < 0) from = y;
      if (!edge && from >= 0) {
        edges.push([x, from, x, y]);
        from = -1;
      }
    }
  }
  outlines.set(mask, edges);
  return edges;
}
