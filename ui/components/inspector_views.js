// A closer look at the step in sight: channels, noise, guidance, change, regions. Made when asked for, kept once made.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { fetchImage } = await from("frames.js");
const { tag } = await from("dom.js");
const { say } = await from("say.js");

const DWELL = 110; // ms a step has to stay in sight before its view is made

export class Views {
  // row: its buttons bear data-look; box: where the pictures go; line: what they are; ask(question): the server's answer
  constructor({ row, box, line }, ask) {
    Object.assign(this, { row, box, line, ask });
    this.known = new Map(); // question -> {words, pictures: [{label, image}]} or {error}
    this.view = "";
    this.question = null;
    for (const button of row.querySelectorAll("[data-look]")) {
      button.addEventListener("click", () => this.choose(this.view === button.dataset.look ? "" : button.dataset.look));
    }
  }

  choose(view) {
    this.view = view;
    for (const button of this.row.querySelectorAll("[data-look]")) {
      button.setAttribute("aria-pressed", String(button.dataset.look === view));
    }
    this.box.hidden = !view;
    this.#paint();
    this.#look(0);
  }

  // Whether the run in sight has such a view; why: what to say if not.
  offer(view, has, why) {
    const button = this.row.querySelector(`[data-look="${view}"]`);
    this.titles ??= new Map();
    if (!this.titles.has(view)) this.titles.set(view, button.title);
    button.disabled = !has && Boolean(this.about);
    button.title = button.disabled ? why : this.titles.get(view);
    if (button.disabled && this.view === view) this.choose("");
  }

  // about: {run, step, total, picture}; null when there is no step
  at(about) {
    if (JSON.stringify(about) === JSON.stringify(this.about)) return;
    this.about = about;
    this.#look(DWELL);
  }

  #look(wait) {
    clearTimeout(this.timer);
    if (!this.view || !this.about) {
      this.#paint();
      return;
    }
    if (this.known.has(this.#key())) this.#paint();
    else this.timer = setTimeout(() => this.#fetch(), wait);
  }

  #key() {
    const { run, step, picture } = this.about;
    return JSON.stringify([run, step, picture, this.view]);
  }

  async #fetch() {
    if (this.asking) return; // the answer looks again
    this.asking = true;
    const key = this.#key();
    const { run, step, picture } = this.about;
    this.box.classList.add("late");
    const answer = await this.ask({ run, step, picture, view: this.view });
    if (!answer.error) {
      const images = await Promise.all(answer.pictures.map(({ url }) => fetchImage(url)));
      answer.pictures = answer.pictures.map(({ label }, k) => ({ label, image: images[k] }));
    }
    this.known.set(key, answer);
    this.asking = false;
    if (this.about && this.view) this.#look(0);
  }

  #paint() {
    const known = this.view && this.about ? this.known.get(this.#key()) : null;
    this.line.textContent = !this.view ? "" : known ? known.error || known.words : this.line.textContent || say("inspector.looking");
    if (!this.view) this.box.replaceChildren();
    if (!known) return;
    this.box.classList.remove("late");
    const { step, total } = this.about;
    this.box.dataset.count = String(known.pictures?.length || 0);
    this.box.replaceChildren(...(known.pictures || []).filter(({ image }) => image).map(({ label, image }) => {
      const figure = tag("figure", "", "look");
      image.alt = say("inspector.shown", { what: label, step, total });
      figure.append(image, tag("figcaption", label));
      return figure;
    }));
  }
}
