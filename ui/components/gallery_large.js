// One picture of the history, large, with all that is known about it. Arrows go on, F marks, Delete deletes, Escape
// closes.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { button, openTab, tag, tell } = await from("dom.js");
const { say } = await from("say.js");

const TABS = { text: "text-to-image", regions: "regions", compare: "compare", run: "live-preview" };

export class Large {
  // part: the elements; of the grid: ask, total(), entry(k), changed(k, row), remove(k, deleted), open(where, detail),
  // go(k)
  constructor(part, grid) {
    Object.assign(this, { part, grid, at: 0, detail: null, turn: 0 });
    part.close.addEventListener("click", () => part.large.close());
    part.large.addEventListener("click", (event) => event.target === part.large && part.large.close());
    // of the document: a button that had the focus may have been disabled, and then no element has it
    document.addEventListener("keydown", (event) => part.large.open && this.#key(event));
    part.large.addEventListener("close", () => {
      this.#forget();
      this.#paint();
      grid.go(this.at);
    });
    part.left.addEventListener("click", () => this.#step(-1));
    part.right.addEventListener("click", () => this.#step(1));
    part.favourite.addEventListener("click", () => this.#change({ favourite: !this.detail?.favourite }));
    part.delete.addEventListener("click", () => this.#remove(true));
    part.restore.addEventListener("click", () => this.#remove(false));
    part["new-tag"].addEventListener("keydown", (event) => {
      const words = part["new-tag"].value.trim();
      if (event.key !== "Enter" || !words || !this.detail) return;
      part["new-tag"].value = "";
      this.#change({ tags: [...this.detail.tags, words] });
    });
    for (const opener of part.open.children) {
      opener.addEventListener("click", () => this.#open(opener.dataset.open));
    }
  }

  async show(k) {
    const { part, grid } = this;
    const turn = this.#forget();
    this.at = k;
    if (!part.large.open) part.large.showModal();
    const row = await grid.entry(k);
    const detail = row ? await grid.ask("detail", { id: row.id }) : { error: say("history.large.gone") };
    if (turn !== this.turn) return;
    this.detail = detail.error ? null : detail;
    part["large-line"].textContent = detail.error || "";
    this.#paint();
  }

  // What is done from now on is not done to the picture before.
  #forget() {
    this.detail = null;
    this.turn += 1;
    return this.turn;
  }

  #paint() {
    const { part, detail, at, grid } = this;
    const found = detail || { prompt: "", negative: "", line: "", about: "", other: [], tags: [], program: "" };
    let image = part.mat.querySelector("img");
    const address = detail ? new URL(detail.url, document.baseURI).href : "";
    if (image?.src !== address) {
      image?.remove();
      if (address) {
        image = document.createElement("img");
        image.src = address;
        part.mat.prepend(image);
      }
    }
    if (image) image.alt = found.prompt || say("history.large.untold");
    part.prompt.textContent = found.prompt || (detail ? say("common.no-prompt") : "");
    part.negative.textContent = found.negative ? say("history.large.without", { negative: found.negative }) : "";
    part.settings.textContent = found.line;
    const { program } = found;
    const maker = program && program !== "Latent Loom" ? say("history.large.by", { program }) : "";
    part.about.textContent = [maker, found.about].filter(Boolean).join(" · ");
    part.favourite.setAttribute("aria-pressed", String(Boolean(found.favourite)));
    part.favourite.disabled = part.delete.disabled = part["new-tag"].disabled = !detail;
    part.delete.hidden = Boolean(found.deleted);
    part.restore.hidden = !found.deleted;
    part.save.hidden = !detail;
    part.save.href = address;
    part.save.download = found.name || "";
    for (const opener of part.open.children) {
      const has = { text: found.settings, regions: found.regions, compare: found.compare, run: found.run };
      opener.hidden = !has[opener.dataset.open] || found.deleted;
    }
    part.tags.replaceChildren(...found.tags.map((word) => {
      const chip = button(`${word} ×`, "chip", () => this.#change({ tags: found.tags.filter((one) => one !== word) }));
      chip.setAttribute("aria-label", say("history.large.remove-tag", { tag: word }));
      return chip;
    }));
    part.other.replaceChildren(...found.other.flatMap(([label, value]) => [tag("dt", label), tag("dd", value)]));
    part.left.disabled = at <= 0;
    part.right.disabled = at >= grid.total() - 1;
  }

  #step(by) {
    const to = this.at + by;
    if (to >= 0 && to < this.grid.total()) this.show(to);
  }

  async #change(what) {
    const { detail, at } = this;
    if (!detail) return;
    const answer = await this.grid.ask("change", { id: detail.id, ...what });
    if (!answer.error) this.grid.changed(at, answer);
    if (this.detail !== detail) return;
    this.part["large-line"].textContent = answer.error || "";
    if (answer.error) return;
    Object.assign(detail, { favourite: answer.favourite, tags: answer.tags });
    this.#paint();
  }

  async #remove(deleted) {
    if (!this.detail) return;
    const wrong = await this.grid.remove(this.at, deleted);
    if (wrong) this.part["large-line"].textContent = wrong;
    else if (!this.grid.total()) this.part.large.close();
    else this.show(Math.min(this.at, this.grid.total() - 1));
  }

  #open(where) {
    const { detail } = this;
    this.part.large.close();
    openTab(TABS[where]);
    if (where === "compare") tell("comparison", { id: detail.compare });
    else if (where === "run") tell("run", { run: detail.run, picture: detail.picture });
    else this.grid.open(where, detail);
  }

  #key(event) {
    if (event.target.matches("input") || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = { ArrowLeft: () => this.#step(-1), ArrowRight: () => this.#step(1),
      f: () => this.part.favourite.click(), F: () => this.part.favourite.click(),
      Delete: () => this.#remove(!this.detail?.deleted) }[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}
