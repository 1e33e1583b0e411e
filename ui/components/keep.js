// Keeps a value in this browser and gives it back after a reload: this tab's own first, else the last one's.

const { read, write } = await import(new URL(`store.js${new URL(import.meta.url).search}`, import.meta.url));

export function mount({ props, trigger, watch }) {
  const stores = ["session", "local"];
  watch("value", () => stores.forEach((where) => write(where, props.store, props.value)));
  if (Object.keys(props.value || {}).length) return; // the page has been used already
  const last = stores.map((where) => read(where, props.store)).find((value) => value && typeof value === "object");
  if (last) trigger("recall", last);
}
