// What can be done with a step: keep it, branch from it, go on from the last one, or take the whole run along.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { download, tag } = await from("dom.js");
const { remembered } = await from("region_layout.js");
const { say } = await from("say.js");

const FIELDS = ["prompt", "negative_prompt", "guidance", "seed", "sampler"];

export class Acts {
  // box: the inspector; part: its named parts; ask: the server's functions
  // at(): {run, step, picture, state} in sight; go(run): show this run; done(): something was kept
  constructor({ box, part, ask, at, go }) {
    Object.assign(this, { part, ask, at, go, from: null });
    this.buttons = Object.fromEntries([...box.querySelectorAll("[data-act]")].map((b) => [b.dataset.act, b]));
    this.fields = Object.fromEntries([...box.querySelectorAll("[data-field]")].map((f) => [f.dataset.field, f]));
    this.lines = Object.fromEntries([...box.querySelectorAll("[data-error]")].map((l) => [l.dataset.error, l]));
    this.options = Object.fromEntries([...box.querySelectorAll("[data-option]")].map((o) => [o.dataset.option, o]));
    this.buttons.keep.addEventListener("click", () => this.keep());
    this.buttons.resume.addEventListener("click", () => this.resume());
    this.buttons.branch.addEventListener("click", () => this.toggle("branch"));
    this.buttons.export.addEventListener("click", () => this.toggle("export"));
    this.options.kind.addEventListener("change", () => this.#options());
    for (const [name, act] of [["branch", () => this.branch()], ["export", () => this.export()]]) {
      part[name].addEventListener("submit", (event) => {
        event.preventDefault();
        act();
      });
    }
    for (const [name, field] of Object.entries(this.fields)) {
      field.addEventListener("input", () => { this.lines[name].textContent = ""; });
    }
    const { low, high } = this.options.seconds.dataset;
    this.options.seconds.title = say("inspector.from-to", { low, high });
    part["branch-regions"].addEventListener("change", () => { this.lines.regions.textContent = ""; });
    for (const form of [part.branch, part.export]) form.addEventListener("keydown", (event) => event.stopPropagation());
    this.#options();
  }

  paint() {
    const { state, step } = this.at();
    const some = step > 0 && state.kept;
    this.buttons.keep.disabled = this.buttons.export.disabled = !some;
    this.buttons.branch.disabled = !some || step >= state.total;
    this.buttons.branch.title = say(step >= state.total && some ? "inspector.nothing-left" : "inspector.another-way");
    this.buttons.resume.hidden = !state.resumable;
    this.part.latents.hidden = !state.latents;
    if (state.latents) {
      this.part.latents.href = new URL(state.latents, document.baseURI).href;
      this.part.latents.download = state.file;
    }
    this.part["branch-title"].textContent = say("inspector.branch-title", { step, next: step + 1 });
    if (!some) for (const name of ["branch", "export"]) this.#fold(name, true);
    if (this.from !== state.run) {
      this.from = state.run;
      this.tell("");
      this.part.exported.textContent = "";
      if (!this.part.branch.hidden) this.#prefill();
    }
  }

  toggle(name) {
    const opening = this.part[name].hidden;
    for (const other of ["branch", "export"]) this.#fold(other, true);
    this.#fold(name, !opening);
    if (!opening) return;
    if (name === "branch") {
      this.#regions();
      this.#prefill();
    }
    this.part[name].querySelector("textarea, select").focus({ preventScroll: true });
  }

  #fold(name, folded) {
    this.part[name].hidden = folded;
    this.buttons[name].setAttribute("aria-expanded", String(!folded));
  }

  // What was typed for a run stays until another run is chosen.
  #prefill() {
    const { state } = this.at();
    if (this.filled === state.run) return;
    this.filled = state.run;
    for (const name of FIELDS) this.fields[name].value = state.asked[name];
    this.part["branch-regions"].value = "";
    this.#errors({});
  }

  // Where a branch may take regions from: the run, the Regions tab as it stands now, or nowhere.
  #regions() {
    const list = this.part["branch-regions"];
    const { value } = list;
    const painted = (remembered()?.regions || []).filter((region) => region.visible !== false).length;
    const has = this.at().state.regions;
    list.replaceChildren(new Option(say(has ? "inspector.regions-as-here" : "inspector.none-as-here"), ""),
      new Option(say(painted ? "inspector.painted" : "inspector.nothing-painted", { n: painted }), "painted"));
    if (has) list.append(new Option(say("inspector.none-on"), "none"));
    list.options[1].disabled = !painted;
    list.value = value;
    if (list.selectedIndex < 0) list.value = "";
  }

  #errors(errors) {
    for (const [name, line] of Object.entries(this.lines)) {
      line.textContent = errors[name] || "";
      line.dataset.kind = "error";
    }
  }

  #options() {
    for (const name of ["order", "seconds"]) this.options[name].disabled = this.options.kind.value === "sheet";
  }

  tell(text, error = false, link = null) {
    this.part.said.replaceChildren(text);
    this.part.said.dataset.kind = error ? "error" : "";
    if (link) this.part.said.append(" ", link);
  }

  async keep() {
    const { run, step, picture } = this.at();
    this.buttons.keep.disabled = true;
    this.tell(say("inspector.decoding", { step }));
    const answer = await this.ask.keep({ run, step, picture });
    this.buttons.keep.disabled = false;
    if (answer.error) {
      this.tell(answer.error, true);
      return;
    }
    const link = tag("a", say("common.download"));
    link.href = new URL(answer.url, document.baseURI).href;
    link.download = answer.name;
    this.tell(say("inspector.kept", { step, file: answer.name }), false, link);
  }

  async branch() {
    const { run, step, state } = this.at();
    const changes = {};
    for (const name of FIELDS) if (this.fields[name].value !== state.asked[name]) changes[name] = this.fields[name].value;
    const regions = this.part["branch-regions"].value;
    if (regions === "none") changes.regions = [];
    if (regions === "painted") changes.canvas = remembered();
    this.#errors({});
    const answer = await this.ask.branch({ run, step, changes });
    if (answer.error) {
      this.#errors({ [answer.field in this.lines ? answer.field : "form"]: answer.error });
      return;
    }
    this.#fold("branch", true);
    this.go(answer.run);
  }

  async resume() {
    this.buttons.resume.disabled = true;
    const answer = await this.ask.resume({ run: this.at().run });
    this.buttons.resume.disabled = false;
    if (answer.error) this.tell(answer.error, true);
    else this.go(answer.run);
  }

  async export() {
    const { run, picture } = this.at();
    const button = this.part.export.querySelector(".go-export");
    const values = Object.fromEntries(Object.entries(this.options).map(([name, option]) => [name, option.value]));
    button.disabled = true;
    this.part.exported.dataset.kind = "";
    this.part.exported.textContent = say("inspector.writing");
    const answer = await this.ask.export({ run, picture, ...values });
    button.disabled = false;
    if (answer.error) {
      this.part.exported.dataset.kind = "error";
      this.part.exported.textContent = answer.error;
      return;
    }
    download(answer.url, answer.name);
    this.part.exported.textContent = `${answer.name}, ${answer.words}`;
  }
}
