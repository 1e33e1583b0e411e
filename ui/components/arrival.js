// A picture dropped anywhere onto the page brings its settings into the form, unless what it falls on takes files
// itself (the painting canvas does). A card says what could not be taken over.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { openTab, tag } = await from("dom.js");
const { say } = await from("say.js");

const MAX_FILE = 40_000_000; // bytes, as in ui/arrival.py

export function mount({ element, props, trigger, watch, upload }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const veil = tag("div", "", "veil");
  veil.append(tag("p", say("arrival.drop")));
  veil.hidden = true;
  document.body.append(veil);
  let last = null; // the file whose card is shown

  const carries = (event) => [...(event.dataTransfer?.types || [])].includes("Files");

  function paint() {
    const { name, program, lines, other, regions, error } = props.value || {};
    part.card.hidden = !name;
    if (!name) return;
    part.card.dataset.kind = error ? "error" : "told";
    part.title.textContent = error || say("arrival.settings", { name, program });
    part.lines.replaceChildren(...lines.map((line) => tag("p", line)));
    part.regions.hidden = !regions || !last;
    part.rest.hidden = !other.length;
    part.rest.open = other.length > 0 && other.length < 8;
    part["rest-title"].textContent = say("arrival.not-understood", { n: other.length });
    part.other.replaceChildren(...other.flatMap(([label, value]) => [tag("dt", label), tag("dd", value)]));
  }

  function refuse(name, error) {
    props.value = { name, program: "", lines: [], other: [], regions: 0, error };
    paint();
  }

  async function take(file) {
    openTab("text-to-image");
    if (file.size > MAX_FILE) {
      refuse(file.name, say("arrival.too-large", { name: file.name, size: MAX_FILE / 1e6 }));
      return;
    }
    try {
      const { path } = await upload(file);
      last = { path, name: file.name };
      trigger("dropped", last);
    } catch {
      refuse(file.name, say("arrival.lost", { name: file.name }));
    }
  }

  // dragenter and dragleave come for every element on the way; dragover comes all the time while a file is in the air
  let away = 0;
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    clearTimeout(away);
    away = setTimeout(() => { veil.hidden = true; }, 300);
    veil.hidden = event.defaultPrevented; // somebody below takes it
    event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (event.defaultPrevented || !carries(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });

  part.close.addEventListener("click", () => {
    props.value = {};
    paint();
  });
  part.regions.addEventListener("click", () => {
    openTab("regions");
    trigger("regions", last);
  });
  window.addEventListener("latent-loom:opened", () => { last = null; }); // the next card is another picture's
  watch("value", paint);
  paint();
  part.card.dataset.ready = "yes";
}
