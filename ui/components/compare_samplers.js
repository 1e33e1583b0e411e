// Boxes to tick. The order of the list is the order of the rows.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { tag } = await from("dom.js");
const { language } = await from("say.js");

export function mount({ element, props, trigger, watch }) {
  const list = element.querySelector('[data-part="list"]');
  const boxes = props.offered[language()].map(({ name, words }) => {
    const box = document.createElement("input");
    box.type = "checkbox";
    box.value = name;
    box.setAttribute("aria-label", name);
    box.title = words;
    box.addEventListener("change", () => {
      props.value = boxes.filter((one) => one.checked).map((one) => one.value);
      trigger("input");
    });
    const text = tag("span", "", "pick-text");
    text.append(tag("b", name), tag("span", words));
    const row = tag("label", "", "pick");
    row.append(box, text);
    list.append(row);
    return box;
  });

  function paint() {
    const ticked = new Set(props.value || []);
    for (const box of boxes) box.checked = ticked.has(box.value);
  }
  watch("value", paint);
  paint();
}
