// Keeps a value in this browser and gives it back after a reload: this tab's own first, else the last one's.

export function mount({ props, trigger, watch }) {
  const stores = [sessionStorage, localStorage];
  watch("value", () => {
    for (const store of stores) {
      try {
        store.setItem(props.store, JSON.stringify(props.value));
      } catch { /* full or forbidden: then a reload starts anew */ }
    }
  });
  if (Object.keys(props.value || {}).length) return; // the page has been used already
  for (const store of stores) {
    try {
      const value = JSON.parse(store.getItem(props.store));
      if (value && typeof value === "object") {
        trigger("recall", value);
        return;
      }
    } catch { /* not ours */ }
  }
}
