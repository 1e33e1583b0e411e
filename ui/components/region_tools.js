// What mouse, finger and pen do on the canvas. Every gesture ends in at most one step of the history.

export const TOOLS = { brush: "B", box: "R", lasso: "L", eraser: "E", fill: "F", move: "V" };
const CURSORS = { brush: "none", eraser: "none", box: "crosshair", lasso: "crosshair", fill: "cell", move: "move" };
const LIGHTEST = 0.35; // share of the brush that the lightest touch of a pen paints

export class Tools {
  // done(): the layout has changed for good. chosen(): another region is in hand.
  constructor({ canvas, layout, view, masks, done, chosen }) {
    Object.assign(this, { canvas, layout, view, masks, done, chosen });
    this.tool = "brush";
    this.brush = 36; // pixels of the picture
    this.active = null; // the gesture under way
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => {
      if (!this.active) this.show(null);
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  pick(tool) {
    this.cancel();
    this.tool = tool;
    this.canvas.style.cursor = CURSORS[tool];
    this.show(null);
  }

  place(event) {
    const frame = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - frame.left) / frame.width) * this.layout.width,
      y: ((event.clientY - frame.top) / frame.height) * this.layout.height,
      pressure: event.pointerType === "pen" ? LIGHTEST + (1 - LIGHTEST) * event.pressure : 1,
    };
  }

  show(gesture) {
    this.view.gesture = gesture;
    this.view.later();
  }

  cursor(at) {
    const painting = this.tool === "brush" || this.tool === "eraser";
    return painting ? { kind: "cursor", x: at.x, y: at.y, radius: (this.brush / 2) * at.pressure } : null;
  }

  down(event) {
    if (this.active || (event.pointerType === "mouse" && event.button !== 0)) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    const at = this.place(event);
    const { layout } = this;
    if (this.tool === "move" || this.tool === "eraser") {
      const number = this.view.owner?.[this.pixel(at)] ?? -1;
      if (this.tool === "move" && number >= 0) this.take(layout.regions[number].id);
      if (!layout.current) return;
    }
    if (layout.current && !layout.current.visible) { // who paints wants to see it
      layout.change(layout.current.id, { visible: true });
      this.view.changed();
    }
    const before = layout.snapshot();
    if (!layout.current) layout.add(false);
    const region = layout.current;
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch { /* a pointer that is gone already */ }
    this.active = { pointer: event.pointerId, tool: this.tool, start: at, last: at, path: [at], region, before };
    if (this.tool === "brush" || this.tool === "eraser") {
      this.view.draft = { id: region.id, mask: region.mask.slice() };
      this.paint(at, at);
    } else if (this.tool === "fill") {
      const made = this.masks.flood(region.mask, this.view.owner, layout.width, layout.height, ...this.whole(at));
      this.commit(made);
    }
  }

  move(event) {
    const { active } = this;
    if (!active) {
      this.show(this.cursor(this.place(event)));
      return;
    }
    if (event.pointerId !== active.pointer) return;
    const events = event.getCoalescedEvents?.() || [];
    for (const part of events.length ? events : [event]) this.advance(this.place(part));
  }

  advance(at) {
    const { active, layout } = this;
    if (active.tool === "brush" || active.tool === "eraser") this.paint(active.last, at);
    else if (active.tool === "box") {
      this.show({ kind: "box", a: active.start, b: at, fill: active.region.color, hidesNames: true });
    } else if (active.tool === "lasso") {
      active.path.push(at);
      this.show({ kind: "path", path: active.path, fill: active.region.color, hidesNames: true });
    } else if (active.tool === "move") {
      const [x, y] = [Math.round(at.x - active.start.x), Math.round(at.y - active.start.y)];
      const mask = this.masks.shift(active.region.mask, layout.width, layout.height, x, y);
      this.view.draft = { id: active.region.id, mask };
      this.view.later();
    }
    active.last = at;
  }

  paint(from, to) {
    const { draft } = this.view;
    const { layout } = this;
    const value = this.active.tool === "brush" ? 1 : 0;
    const [top, bottom] = this.masks.stroke(draft.mask, layout.width, layout.height, from, to,
      (this.brush / 2) * to.pressure, value);
    if (bottom >= top) {
      const fresh = draft.mask.fresh || [top, bottom];
      draft.mask.fresh = [Math.min(fresh[0], top), Math.max(fresh[1], bottom)];
    }
    this.show(this.cursor(to));
  }

  up(event, lost = false) {
    const { active, layout } = this;
    if (!active || event.pointerId !== active.pointer) return;
    if (lost) {
      this.cancel();
      return;
    }
    const { region } = active;
    const { width, height } = layout;
    if (active.tool === "box") this.commit(this.masks.box(region.mask, width, height, active.start, active.last));
    else if (active.tool === "lasso") this.commit(this.masks.lasso(region.mask, width, height, active.path));
    else if (this.view.draft) this.commit(this.view.draft.mask);
    this.active = null;
    this.show(event.pointerType === "mouse" ? this.cursor(active.last) : null);
  }

  // Take the new mask over, if it is one; else the gesture leaves no trace.
  commit(mask) {
    const { active, layout, view } = this;
    view.draft = null;
    const changed = this.masks.encode(mask) !== this.masks.encode(active.region.mask);
    if (changed) {
      layout.past.push(active.before);
      layout.future = [];
      active.region.mask = mask;
    } else {
      const { regions, selected } = active.before;
      if (regions.length < layout.regions.length) layout.regions.pop();
      layout.selected = selected;
    }
    this.done();
  }

  cancel() {
    if (!this.active) return;
    const { before, tool } = this.active;
    this.view.draft = null;
    this.view.gesture = null;
    if (tool !== "fill" && before.regions.length < this.layout.regions.length) {
      this.layout.regions.pop();
      this.layout.selected = before.selected;
    }
    this.active = null;
    this.done();
  }

  take(id) {
    if (this.layout.selected === id) return;
    this.layout.selected = id;
    this.chosen();
  }

  // Move the region in hand by whole pixels (arrow keys).
  nudge(x, y) {
    const { layout } = this;
    if (!layout.current) return;
    layout.change(layout.selected, {
      mask: this.masks.shift(layout.current.mask, layout.width, layout.height, x, y) });
    this.done();
  }

  // A box in the middle, for who paints with the keyboard.
  centre() {
    const { layout, masks } = this;
    layout.mark();
    const region = layout.current || layout.add(false);
    const corner = (k) => ({ x: layout.width * k, y: layout.height * k });
    region.mask = masks.box(region.mask, layout.width, layout.height, corner(0.3), corner(0.7));
    region.visible = true;
    this.done();
  }

  whole(at) {
    const { width, height } = this.layout;
    return [Math.min(Math.max(Math.floor(at.x), 0), width - 1), Math.min(Math.max(Math.floor(at.y), 0), height - 1)];
  }

  pixel(at) {
    const [x, y] = this.whole(at);
    return y * this.layout.width + x;
  }
}
