// A text field for a number, with or without a slider beside it. What is typed is kept as it is.

export function mount({ element, props, trigger, watch }) {
  const text = element.querySelector('[data-part="text"]');
  const range = element.querySelector('[data-part="range"]');
  const low = Number(text.getAttribute("aria-valuemin"));
  const high = Number(text.getAttribute("aria-valuemax"));
  const step = Number(text.dataset.step);

  function paint(value) {
    if (text.value !== value) text.value = value;
    const number = Number(value);
    if (value.trim() === "" || !Number.isFinite(number)) {
      text.removeAttribute("aria-valuenow");
      return;
    }
    text.setAttribute("aria-valuenow", String(number));
    if (!range) return;
    range.value = String(number);
    const part = (Math.min(Math.max(number, low), high) - low) / (high - low);
    range.style.setProperty("--part", `${100 * part}%`);
  }

  function set(value, tell) {
    if (props.value !== value) props.value = value;
    paint(value);
    if (tell) trigger("input");
  }

  function nudge(by) {
    const number = Number(text.value);
    if (!Number.isFinite(number)) return;
    const next = Math.min(Math.max(number + by * step, low), high);
    set(String(Number(next.toFixed(4))), true);
  }

  text.addEventListener("input", () => set(text.value, false));
  text.addEventListener("change", () => set(text.value, true));
  text.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    nudge(by);
  });
  if (range) range.addEventListener("input", () => set(range.value, true));
  watch("value", () => paint(String(props.value)));
  paint(String(props.value));
}
