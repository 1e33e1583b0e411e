// The filmstrip below a picture: as many slots as there is room for, each with a small copy of its step's picture.

const { tag } = await import(new URL(`dom.js${new URL(import.meta.url).search}`, import.meta.url));

const SLOT = 44; // px of a slot, at least
const COPY = 96; // px of a copy's shorter side

export class Film {
  // pick(step): a slot was clicked; steps count from 1
  constructor(strip, pick) {
    Object.assign(this, { strip, pick });
  }

  build(total) {
    const room = this.strip.clientWidth || 600;
    const slots = Math.max(1, Math.min(total, Math.floor(room / SLOT)));
    this.strip.replaceChildren();
    for (let k = 0; k < slots; k += 1) {
      const slot = tag("div", "", "slot");
      slot.dataset.step = String(slots === 1 ? total : 1 + Math.round((k * (total - 1)) / (slots - 1)));
      slot.addEventListener("click", () => this.pick(Number(slot.dataset.step)));
      this.strip.append(slot);
    }
  }

  // shown: the step in sight, 0 for none; reach: steps that can be shown; key: whose pictures these are;
  // load(step): its <img>, or a promise of it, or null
  paint(shown, reach, key, load) {
    const slots = [...this.strip.children];
    const now = slots.filter((slot) => Number(slot.dataset.step) <= Math.max(shown, 1)).at(-1);
    for (const slot of slots) {
      const step = Number(slot.dataset.step);
      slot.classList.toggle("now", slot === now && shown > 0);
      if (step > reach || slot.dataset.key === key) continue;
      slot.dataset.key = key;
      Promise.resolve(load(step)).then((image) => {
        if (slot.dataset.key !== key) return;
        if (image) slot.replaceChildren(copyOf(image));
        else delete slot.dataset.key; // not there yet: the next painting looks again
      });
    }
  }
}

export function copyOf(image) {
  const canvas = document.createElement("canvas");
  const scale = COPY / Math.min(image.naturalWidth, image.naturalHeight);
  canvas.width = Math.round(image.naturalWidth * scale);
  canvas.height = Math.round(image.naturalHeight * scale);
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}
