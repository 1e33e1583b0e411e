// The model bar: a few short facts. It asks again only while there is a queue, so that no number is stale.

const AGAIN = 2000; // ms

export function mount({ element, props, trigger, watch }) {
  const bar = element.querySelector('[data-part="bar"]');
  setInterval(() => {
    const { starting = false, queue = 0 } = props.value || {};
    if (!document.hidden && (queue || starting)) trigger("refresh");
  }, AGAIN);

  function fact(text, kind) {
    const span = document.createElement("span");
    span.className = `fact ${kind}`;
    span.textContent = text;
    return span;
  }

  function paint() {
    const { facts = [], queue = 0, model = "" } = props.value || {};
    bar.dataset.model = model; // what the list of models marks as the one in use
    const shown = facts.map((text) => fact(text, ""));
    document.dispatchEvent(new CustomEvent("latent-loom:queue", { detail: queue })); // for the queue's panel
    bar.replaceChildren(...shown);
    bar.title = (props.value || {}).title || "";
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) trigger("refresh");
  });
  watch("value", paint);
  paint();
}
