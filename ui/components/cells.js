// Hands the shares of the latent cells to the painting canvas.

export function mount({ props, watch }) {
  function tell() {
    const value = props.value || {};
    if (!value.weights) return;
    const weights = value.weights.map((text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0)));
    window.dispatchEvent(new CustomEvent("latent-loom:cells", { detail: { ...value, weights } }));
  }
  watch("value", tell);
}
