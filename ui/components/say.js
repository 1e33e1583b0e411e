// What the page says, in the browser's language: the texts of ui/languages, by their keys.

const ENGLISH = "en";
const tables = window.latentLoomWords;

// Gradio chooses the language, and tells the document.
export const language = () => (tables[document.documentElement.lang] ? document.documentElement.lang : ENGLISH);

// A text with its {values}. Where it has the forms one and other, `n` decides.
export function say(key, values = {}) {
  const texts = tables[language()];
  const text = texts[key] ?? texts[`${key}.${values.n === 1 ? "one" : "other"}`];
  if (text === undefined) throw new Error(`the page has no words for ${key}`);
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// Fills what a template leaves open: data-say is an element's text, data-say-label, data-say-title and
// data-say-placeholder are its attributes.
const ATTRIBUTES = { label: "aria-label", title: "title", placeholder: "placeholder" };

export function fill(element) {
  for (const one of element.querySelectorAll("[data-say]")) one.textContent = say(one.dataset.say);
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    for (const one of element.querySelectorAll(`[data-say-${name}]`)) {
      one.setAttribute(attribute, say(one.getAttribute(`data-say-${name}`)));
    }
  }
}
