// The seed's field and its dice. Typing a seed puts the dice away; pressing it draws anew for every run.

export function mount({ element, props, trigger, watch }) {
  const text = element.querySelector('[data-part="text"]');
  const dice = element.querySelector('[data-part="dice"]');

  function paint() {
    const { random, seed } = props.value;
    if (text.value !== String(seed)) text.value = String(seed);
    text.classList.toggle("dimmed", random);
    dice.setAttribute("aria-pressed", String(random));
  }

  function set(value, tell) {
    props.value = value;
    paint();
    if (tell) trigger("input");
  }

  text.addEventListener("input", () => set({ random: text.value.trim() === "", seed: text.value }, false));
  text.addEventListener("change", () => trigger("input"));
  dice.addEventListener("click", () => set({ ...props.value, random: !props.value.random }, true));
  watch("value", paint);
  paint();
}
