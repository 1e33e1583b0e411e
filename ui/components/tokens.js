// Token counts at the corners of prompt fields. Text arrives as data and is written as text, never as markup.

const { say } = await import(new URL(`say.js${new URL(import.meta.url).search}`, import.meta.url));

export function mount({ props, watch }) {
  function paint() {
    const texts = props.value || {};
    for (const place of document.querySelectorAll(`[data-count^="${props.scope}:"]`)) {
      const text = texts[place.dataset.count.slice(props.scope.length + 1)] || "";
      if (place.textContent === text) continue;
      place.textContent = text;
      place.title = text && say("tokens.title", { count: text.split(" ")[0] });
    }
  }
  watch("value", paint);
  paint();
  new MutationObserver(paint).observe(document.body, { childList: true, subtree: true }); // places that come later
}
