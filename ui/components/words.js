// Chips of known words, LoRAs and textual inversions, ideas, and completions in every prompt field. All of it goes into
// the text as if it were typed, so that Ctrl+Z takes it back.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { button, tag } = await from("dom.js");
const { completions, insert } = await from("completions.js");
const { say } = await from("say.js");

export function mount({ element, props, watch, server }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  let last = null; // the field that had the focus last
  const field = () => (last?.isConnected ? last : document.querySelector(props.field));
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches?.(props.field)) last = target;
  });

  function paint() {
    const { kinds = {}, extras = [] } = props.value || {};
    const known = Object.entries(kinds).map(([kind, words]) => [say(`words.kinds.${kind}`), words]);
    part.words.hidden = part.surprise.hidden = !known.length;
    part.kinds.replaceChildren(...known.map(([kind, words]) => row(kind, words.map(([word, ...others]) => {
      return chip(word, word, others.length ? say("words.add-word-of-many", { word, others: others.join(", ") })
        : say("words.add-word", { word }));
    }))));
    const fitting = extras.filter((one) => !one.error && one.fits !== false);
    part.extras.hidden = !extras.length;
    part.list.replaceChildren(...fitting.map(extra), ...left(extras));
    completions.learn(props.field, known.flatMap(([kind, words]) => words.flatMap(
      ([word, ...others]) => [{ phrase: word, kind: kind.toLowerCase() },
        ...others.map((phrase) => ({ phrase, kind, means: word }))])), fitting);
  }

  function row(name, chips) {
    const made = tag("div", "", "words-kind");
    const box = tag("div", "", "words-chips");
    box.append(...chips);
    made.append(tag("span", name, "words-name"), box);
    return made;
  }

  function chip(label, text, title) {
    const made = button(label, "chip", () => add(text));
    made.title = title;
    return made;
  }

  function extra({ kind, name, family, megabytes, triggers = [], vectors }) {
    const lora = kind === "lora";
    const size = megabytes >= 1 ? `${Math.round(megabytes)} MB` : `${Math.max(1, Math.round(1024 * megabytes))} kB`;
    const about = lora ? ["LoRA", family, size] : [say("words.inversion"), family, say("words.tokens", { n: vectors })];
    const text = lora ? `<lora:${name}:1>` : name;
    const made = row(about.filter(Boolean).join(" · "), [
      chip(name, text, say("words.add", { text })),
      ...triggers.map((word) => chip(word, word, say("words.add-trigger", { word, name }))),
    ]);
    made.querySelector(".chip").classList.add("chip-lead");
    return made;
  }

  // What cannot be used now, and why.
  function left(extras) {
    const others = extras.filter((one) => one.fits === false).map((one) => one.name);
    const lines = extras.filter((one) => one.error).map((one) => `${one.name}: ${one.error}`);
    if (others.length) {
      const named = others.slice(0, 6).join(", ") + (others.length > 6 ? ", ..." : "");
      lines.unshift(say("words.others", { n: others.length, names: named }));
    }
    return lines.map((line) => tag("p", line, "words-left"));
  }

  // At the end of the prompt, behind a space.
  function add(word) {
    const text = field();
    const end = text.value.length;
    const gap = text.value && !/\s$/.test(text.value) ? " " : "";
    insert(text, gap + word, end, end);
  }

  async function surprise() {
    const text = field();
    part.surprise.disabled = true;
    try {
      insert(text, await server.idea({}), 0, text.value.length);
    } finally {
      part.surprise.disabled = false;
    }
  }

  part.surprise.addEventListener("click", surprise);
  watch("value", paint);
  paint();
}
