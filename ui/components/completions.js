// What the word at the cursor may become, in a small list below the field: arrows choose, Tab or Enter takes, Escape
// closes. One list for all prompt fields of the page.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { tag } = await from("dom.js");
const { say } = await from("say.js");

const LEAST = 2; // letters before anything is offered
const MOST = 6; // lines
const FIELDS = "textarea.completes, .completes textarea";

let inserting = false; // nobody types, so nothing is offered

// Replaces a part of a field's text as if it were typed: the browser's undo knows it, and so does whoever listens.
export function insert(field, text, start, end) {
  field.focus({ preventScroll: true });
  field.setSelectionRange(start, end);
  inserting = true;
  try {
    if (document.execCommand("insertText", false, text)) return;
    field.setRangeText(text, start, end, "end"); // a browser without that command
    field.dispatchEvent(new Event("input", { bubbles: true }));
  } finally {
    inserting = false;
  }
}

class Completions {
  constructor() {
    this.learned = new Map(); // who said so -> {known, extras}
    this.known = []; // {phrase, kind, means}: means is the word it stands for, where it is another one
    this.extras = []; // {name, kind}: LoRAs and textual inversions
    this.list = tag("ul", "", "completions");
    Object.assign(this.list, { id: "completions", hidden: true });
    this.list.setAttribute("role", "listbox");
    document.body.append(this.list);
    this.field = null;
    this.found = [];
    this.at = -1;
    document.addEventListener("input", (event) => this.#look(event));
    document.addEventListener("keydown", (event) => this.#press(event), true); // before whoever takes Enter elsewhere
    document.addEventListener("focusout", () => this.close());
    window.addEventListener("resize", () => this.close());
    window.addEventListener("scroll", () => this.field && this.#place(), true);
  }

  learn(who, known, extras) {
    this.learned.set(who, { known, extras });
    const all = [...this.learned.values()];
    this.known = all.flatMap((one) => one.known);
    this.extras = [...new Map(all.flatMap((one) => one.extras).map((one) => [one.kind + one.name, one])).values()];
  }

  close() {
    this.list.hidden = true;
    this.field?.removeAttribute("aria-activedescendant");
    this.field = null;
  }

  #look(event) {
    const field = event.target;
    const deleted = event.inputType?.startsWith("delete");
    if (inserting || deleted || !event.isTrusted || !field.matches?.(FIELDS)) {
      this.close();
      return;
    }
    const before = field.value.slice(0, field.selectionStart);
    const after = field.value.slice(field.selectionEnd);
    this.found = tags(before, this.extras) || [...names(before, after, this.extras),
      ...matches(before, after, this.known)].slice(0, MOST);
    if (!this.found.length) {
      this.close();
      return;
    }
    this.field = field;
    this.#show();
  }

  #place() {
    const { left, bottom, width } = this.field.getBoundingClientRect();
    Object.assign(this.list.style, { left: `${left}px`, top: `${bottom + 4}px`, width: `${Math.min(width, 340)}px` });
  }

  #show() {
    this.#place();
    this.list.setAttribute("aria-label", say("words.at-hand"));
    this.list.replaceChildren(...this.found.map(({ phrase, label, kind, means }, k) => {
      const line = tag("li", "", "completion");
      line.id = `completion-${k}`;
      line.setAttribute("role", "option");
      const about = means ? say("words.same", { word: means }) : kind;
      line.append(tag("span", label || phrase), tag("span", about, "completion-kind"));
      line.addEventListener("pointerdown", (event) => { // before the field loses the focus
        event.preventDefault();
        this.#take(k);
      });
      return line;
    }));
    this.list.hidden = false;
    this.#mark(0);
  }

  #mark(at) {
    this.at = (at + this.found.length) % this.found.length;
    [...this.list.children].forEach((line, k) => line.setAttribute("aria-selected", String(k === this.at)));
    this.field.setAttribute("aria-controls", this.list.id);
    this.field.setAttribute("aria-activedescendant", `completion-${this.at}`);
  }

  #press(event) {
    if (this.list.hidden || event.target !== this.field || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { ArrowDown: () => this.#mark(this.at + 1), ArrowUp: () => this.#mark(this.at - 1),
      Tab: () => this.#take(this.at), Enter: () => this.#take(this.at), Escape: () => this.close() }[event.key];
    if (!act || event.isComposing || (event.key === "Tab" && event.shiftKey)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  #take(k) {
    const { field } = this;
    const { phrase, typed } = this.found[k];
    const end = field.selectionEnd;
    insert(field, phrase, field.selectionStart - typed, end);
    this.close();
  }
}

// LoRAs whose name holds what stands behind "<lora:"; null where nobody is writing one.
function tags(before, extras) {
  const open = /<\s*(?:lora|lyco)\s*:([^<>:\n]*)$/i.exec(before);
  if (!open) return null;
  const typed = open[1].toLowerCase();
  const found = extras.filter(({ kind, name }) => kind === "lora" && name.toLowerCase().includes(typed));
  found.sort((a, b) => b.name.toLowerCase().startsWith(typed) - a.name.toLowerCase().startsWith(typed));
  return found.slice(0, MOST).map(({ name }) => (
    { phrase: `${name}:1>`, label: name, kind: "LoRA", typed: open[1].length }));
}

// Textual inversions, and LoRAs too, whose name begins with the last word.
function names(before, after, extras) {
  const [typed] = /[^\s,()<>[\]:|]*$/.exec(before);
  if (typed.length < LEAST || /^[\p{L}\p{N}]/u.test(after)) return [];
  return extras.filter(({ name }) => name.toLowerCase().startsWith(typed.toLowerCase()) && name !== typed).map(
    ({ name, kind }) => ({ phrase: kind === "lora" ? `<lora:${name}:1>` : name, label: name,
      kind: kind === "lora" ? "LoRA" : say("words.inversion").toLowerCase(), typed: typed.length }));
}

// Phrases that go on from what stands before the cursor; of its last words the longest run that begins one counts.
function matches(before, after, known) {
  if (/^\p{L}/u.test(after)) return []; // in the middle of a word
  const words = before.split(/[^\p{L} ]/u).at(-1).trimStart().toLowerCase();
  const found = new Map();
  for (let rest = words; rest.length >= LEAST; rest = rest.includes(" ") ? rest.slice(rest.indexOf(" ") + 1) : "") {
    for (const entry of known) {
      if (entry.phrase.startsWith(rest) && entry.phrase !== rest && !found.has(entry.phrase)) {
        found.set(entry.phrase, { ...entry, typed: rest.length });
      }
    }
  }
  return [...found.values()].slice(0, MOST);
}

export const completions = new Completions();
