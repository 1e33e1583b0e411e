// One cell lit in all parts of the board at once: tile, table row, curves, path. Pointer or focus on one of them lights
// it; a click on a plot chooses it, as one on its tile does.

export class Light {
  // pick(k, left): cell number k was clicked in a plot; left: with Shift
  constructor(board, pick) {
    Object.assign(this, { board, cell: -1 });
    const light = (event) => this.#set(cellOf(event.target));
    board.addEventListener("pointerover", light);
    board.addEventListener("focusin", light);
    for (const end of ["pointerleave", "focusout"]) board.addEventListener(end, () => this.#set(-1));
    board.addEventListener("click", (event) => {
      const k = event.target.closest?.("svg") ? cellOf(event.target) : -1;
      if (k >= 0) pick(k, event.shiftKey);
    });
  }

  // Anew after something was drawn.
  paint() {
    this.board.classList.toggle("lighting", this.cell >= 0);
    for (const part of this.board.querySelectorAll("[data-cell]")) {
      part.classList.toggle("lit", part.dataset.cell.split(" ").includes(String(this.cell)));
    }
  }

  #set(cell) {
    if (cell === this.cell) return;
    this.cell = cell;
    this.paint();
  }
}

// A line that stands for several cells ("3 4 5") is lit with each of them, and lights none.
function cellOf(target) {
  const cell = target.closest?.("[data-cell]")?.dataset.cell ?? "";
  return /^\d+$/.test(cell) ? Number(cell) : -1;
}
