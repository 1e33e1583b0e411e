// Chips of known words.

export function mount({ element, props, trigger, watch }) {
  const box = element.querySelector('[data-part="kinds"]');
  const whole = element.querySelector('[data-part="words"]');
  function paint() {
    whole.hidden = !Object.keys(props.value || {}).length;
    box.replaceChildren(
      ...Object.entries(props.value || {}).map(([kind, words]) => {
        const row = document.createElement("div");
        row.className = "words-kind";
        const name = document.createElement("span");
        name.className = "words-name";
        name.textContent = kind;
        const chips = document.createElement("div");
        chips.className = "words-chips";
        for (const word of words) {
          const chip = document.createElement("button");
          chip.type = "button";
          chip.className = "chip";
          chip.textContent = word;
          chip.title = `Add "${word}" to the prompt`;
          chip.addEventListener("click", () => trigger("pick", { word }));
          chips.append(chip);
        }
        row.append(name, chips);
        return row;
      }),
    );
  }
  watch("value", paint);
  paint();
}
