// The model bar: a few short facts. It asks again only while a queue is shown, so that no number on it is stale.

const AGAIN = 2000; // ms

export function mount({ element, props, trigger, watch }) {
  const bar = element.querySelector('[data-part="bar"]');
  setInterval(() => {
    const { facts = [], queue = 0 } = props.value || {};
    if (!document.hidden && (queue || facts.includes("starting"))) trigger("refresh");
  }, AGAIN);

  function fact(text, kind) {
    const span = document.createElement("span");
    span.className = `fact ${kind}`;
    span.textContent = text;
    return span;
  }

  function paint() {
    const { facts = [], queue = 0 } = props.value || {};
    const shown = facts.map((text) => fact(text, ""));
    if (queue) shown.push(fact(`${queue} in queue`, "queue"));
    bar.replaceChildren(...shown);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) trigger("refresh");
  });
  watch("value", paint);
  paint();
}
