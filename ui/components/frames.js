// The pictures of one run, each loaded once and kept, so that scrubbing asks nobody.

const DECODING = 400; // ms after which a loaded picture is shown without waiting for its decoding

export class Frames {
  // address: folder of the run's previews ("" without previews)
  constructor(address) {
    this.address = address;
    this.images = new Map();
    this.without = new Set(); // steps, counted from 1, that were taken and have no preview yet
  }

  has(step) {
    return Boolean(this.address) && step > 0 && !this.without.has(step);
  }

  // The newest step at or before this one that can be shown; 0: none.
  before(step) {
    let at = this.address ? step : 0;
    while (at > 0 && !this.has(at)) at -= 1;
    return at;
  }

  // The <img> of a preview (step counted from 1) once it can be shown; null when there is none.
  step(step, picture) {
    if (!this.has(step)) return Promise.resolve(null);
    const name = `${String(step - 1).padStart(3, "0")}-${picture}.jpg`;
    return this.load(`${this.address}/${name}`);
  }

  load(address) {
    if (!this.images.has(address)) this.images.set(address, fetchImage(address));
    return this.images.get(address);
  }
}

export async function fetchImage(address) {
  const image = new Image();
  image.draggable = true;
  const loaded = new Promise((resolve) => {
    image.onload = () => resolve(true);
    image.onerror = () => resolve(false);
  });
  image.src = new URL(address, document.baseURI).href;
  if (!(await loaded)) return null;
  // a hidden tab may put decoding off for ever
  await Promise.race([image.decode().catch(() => {}), new Promise((go) => setTimeout(go, DECODING))]);
  return image;
}
