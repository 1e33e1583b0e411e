// The pictures of one run from one source, fetched once, nearest first, and kept: scrubbing asks nobody.

const { fetchImage } = await import(new URL(`frames.js${new URL(import.meta.url).search}`, import.meta.url));

const CHUNK = 4; // steps asked for at once: few enough that the one in sight comes soon

export class Reel {
  // ask(steps): their addresses, in order, "" for one that is not to be had; steps count from 1
  // arrived(): some pictures are there; awake(): whether anybody looks
  constructor(ask, arrived, awake) {
    Object.assign(this, { ask, arrived, awake });
    this.images = new Map();
    this.missed = new Set();
    this.reach = 0;
    this.first = 1;
    this.error = "";
  }

  at(step) {
    return this.images.get(step) || null;
  }

  // The newest picture at or before a step: {step, image}, or null.
  before(step) {
    for (let k = step; k > 0; k -= 1) if (this.images.has(k)) return { step: k, image: this.images.get(k) };
    return null;
  }

  get missing() {
    const steps = [];
    for (let k = 1; k <= this.reach; k += 1) if (!this.images.has(k) && !this.missed.has(k)) steps.push(k);
    return steps.sort((a, b) => Math.abs(a - this.first) - Math.abs(b - this.first));
  }

  // Fetch all pictures up to `reach`, those around `first` before the others.
  async fill(reach, first) {
    Object.assign(this, { reach, first });
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.awake() && this.missing.length) {
        const steps = this.missing.slice(0, CHUNK);
        const loaded = await Promise.all((await this.ask(steps)).map((url) => (url ? fetchImage(url) : null)));
        steps.forEach((step, k) => (loaded[k] ? this.images.set(step, loaded[k]) : this.missed.add(step)));
        this.arrived();
      }
      this.error = "";
    } catch (error) {
      this.error = error.message;
      this.arrived();
    } finally {
      this.busy = false;
    }
  }
}
