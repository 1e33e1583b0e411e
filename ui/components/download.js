// Gives the browser a file that the server has just written down.

export function mount({ props, watch }) {
  watch("value", () => {
    const { name, text } = props.value || {};
    if (!name) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
}
