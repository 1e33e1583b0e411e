// The list of runs: what is being made now, and every run that was kept, newest first.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { tag } = await from("dom.js");
const { say } = await from("say.js");

export class Runs {
  // parts: the button, the list and its line; ask(): the server's list; choose(run): "now" or a run's name
  constructor({ button, list, line }, ask, choose) {
    Object.assign(this, { button, list, line, ask, choose });
    button.addEventListener("click", () => (this.open ? this.shut() : this.show()));
    list.addEventListener("keydown", (event) => this.#key(event));
    button.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" && !this.open) this.show();
      else if (event.key === "Escape" && this.open) this.shut();
      else return;
      event.preventDefault();
    });
    document.addEventListener("pointerdown", (event) => {
      if (this.open && !list.contains(event.target) && !button.contains(event.target)) this.shut();
    });
  }

  get open() {
    return !this.list.hidden;
  }

  async show() {
    this.list.hidden = false;
    this.button.setAttribute("aria-expanded", "true");
    if (!this.list.children.length) this.list.append(tag("p", say("inspector.looking"), "run-none"));
    const answer = await this.ask();
    if (!this.open) return;
    if (answer.error) {
      this.list.replaceChildren(tag("p", answer.error, "run-none"));
      return;
    }
    this.list.replaceChildren(...answer.runs.map((run) => this.#option(run)));
    if (answer.runs.length < 2) this.list.append(tag("p", say("inspector.will-stand"), "run-none"));
    if (answer.more) this.list.append(tag("p", say("inspector.older", { count: answer.more }), "run-none"));
    (this.list.querySelector('[aria-selected="true"]') || this.list.querySelector("[role=option]"))?.focus();
  }

  shut() {
    this.list.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
  }

  // current: the run in sight, "now" while whatever runs is followed
  mark(current) {
    this.current = current;
    for (const option of this.list.querySelectorAll("[role=option]")) {
      option.setAttribute("aria-selected", String(option.dataset.run === current));
    }
  }

  #option(run) {
    const option = tag("div", "", "run-option");
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", String(run.run === this.current));
    option.tabIndex = -1;
    option.dataset.run = run.run;
    option.setAttribute("aria-label", `${run.now ? say("inspector.now") : ""}${
      run.prompt || say("queue.no-prompt")}, ${run.words}`);
    const thumb = tag("span", "", "run-thumb");
    if (run.thumb) {
      const image = document.createElement("img");
      image.alt = "";
      image.loading = "lazy";
      image.src = new URL(run.thumb, document.baseURI).href;
      thumb.append(image);
    }
    const words = tag("span", "", "run-words");
    const prompt = tag("b", run.prompt || say("common.no-prompt"));
    if (run.now) prompt.prepend(tag("em", say("inspector.now")));
    words.append(prompt, tag("span", run.words));
    option.append(thumb, words);
    option.addEventListener("click", () => {
      this.shut();
      this.button.focus();
      this.choose(run.run);
    });
    return option;
  }

  #key(event) {
    const options = [...this.list.querySelectorAll("[role=option]")];
    const at = options.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: options.length - 1 }[event.key];
    event.stopPropagation(); // the scrubber's keys are not meant
    if (event.key === "Escape") {
      this.shut();
      this.button.focus();
    } else if (event.key === "Enter" || event.key === " ") options[at]?.click();
    else if (to !== undefined) options[Math.min(Math.max(to, 0), options.length - 1)]?.focus();
    else return;
    event.preventDefault();
  }
}
