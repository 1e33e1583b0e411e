// Lines beside fields. Text arrives as data and is written as text, never as markup.

const { language } = await import(new URL(`say.js${new URL(import.meta.url).search}`, import.meta.url));

export function mount({ props, watch }) {
  function paint() {
    const lines = props.value || props.first[language()];
    for (const place of document.querySelectorAll(`[data-line^="${props.scope}:"]`)) {
      const [kind, text] = lines[place.dataset.line.slice(props.scope.length + 1)] || ["", ""];
      if (place.textContent === text && place.dataset.kind === kind) continue;
      place.dataset.kind = kind;
      place.setAttribute("role", kind === "error" ? "alert" : "status");
      place.textContent = text;
    }
  }
  watch("value", paint);
  paint();
  // an accordion draws its content when it opens: its lines come then
  new MutationObserver(paint).observe(document.body, { childList: true, subtree: true });
}
