// Two cells, one over the other, with a divider between them that mouse, finger and keys move.

const own = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [{ tag }, { say }] = await Promise.all(["dom.js", "say.js"].map(own));

export class Duel {
  // draw(canvas, k): shows cell k there, at the step that the scrubber is at
  constructor(part, draw) {
    Object.assign(this, { part, draw, left: 0, right: 0 });
    part.divider.addEventListener("input", () => this.#divide());
    part.swap.addEventListener("click", () => this.#set(this.right, this.left));
    part["pick-left"].addEventListener("change", (event) => this.#set(Number(event.target.value), this.right));
    part["pick-right"].addEventListener("change", (event) => this.#set(this.left, Number(event.target.value)));
    part["duel-mat"].addEventListener("pointerdown", (event) => {
      part["duel-mat"].setPointerCapture(event.pointerId);
      this.#drag(event);
    });
    part["duel-mat"].addEventListener("pointermove", (event) => event.buttons && this.#drag(event));
    this.#divide();
  }

  build(state) {
    [this.left, this.right] = [0, Math.max(state.cells.length - 1, 0)];
    this.part["duel-mat"].style.aspectRatio = `${state.width || 1} / ${state.height || 1}`;
    for (const side of ["left", "right"]) {
      this.part[`pick-${side}`].replaceChildren(...state.cells.map((cell, k) => {
        const option = tag("option", cell.label);
        option.value = String(k);
        return option;
      }));
    }
  }

  // Put a cell on one side.
  choose(k, left) {
    this.#set(left ? k : this.left, left ? this.right : k);
  }

  paint(state) {
    if (!state.cells.length) return;
    for (const side of ["left", "right"]) {
      this.part[`pick-${side}`].value = String(this[side]);
      this.draw(this.part[side], this[side]);
    }
    for (const tile of document.querySelectorAll(".tile")) {
      const sides = ["left", "right"].filter((side) => Number(tile.dataset.cell) === this[side]);
      if (tile.dataset.side === sides.join(" ")) continue;
      tile.dataset.side = sides.join(" ");
      tile.querySelector(".tile-mat").dataset.words = sides.length ? say(`compare.sides.${sides.join("-")}`) : "";
    }
    this.state = state;
  }

  #set(left, right) {
    Object.assign(this, { left, right });
    if (this.state) this.paint(this.state);
  }

  #drag(event) {
    const { left, width } = this.part["duel-mat"].getBoundingClientRect();
    this.part.divider.value = String(Math.round(Math.min(Math.max((event.clientX - left) / width, 0), 1) * 100));
    this.#divide();
  }

  #divide() {
    const { value } = this.part.divider;
    this.part.right.style.clipPath = `inset(0 0 0 ${value}%)`;
    this.part["duel-line"].style.left = `${value}%`;
    this.part.divider.style.setProperty("--part", `${value}%`);
    this.part.divider.setAttribute("aria-valuetext", say("compare.share-left", { percent: value }));
  }
}
