// What one region believes by itself, at the step on the stage: so that people see why a region loses.
// Asked of the server only while somebody looks.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const { answerTo } = await from("dom.js");
const { say } = await from("say.js");

export function offer(element, server) {
  const stage = element.closest(".regions-bench")?.querySelector(".stage");
  if (!stage) return;
  const mat = stage.querySelector(".mat");
  for (const old of mat.querySelectorAll(".mat-alone")) old.remove();
  const choice = document.createElement("select");
  choice.className = "quiet preset";
  choice.setAttribute("aria-label", say("painter.alone-label"));
  choice.title = say("painter.alone-title");
  choice.hidden = true;
  const sheet = document.createElement("div");
  sheet.className = "mat-alone";
  sheet.hidden = true;
  const image = document.createElement("img");
  const line = document.createElement("p");
  line.setAttribute("role", "status");
  sheet.append(image, line);
  mat.querySelector(".mat-tools").append(choice);
  mat.insertBefore(sheet, mat.querySelector(".mat-masks"));

  const known = new Map(); // question -> {url} or {error}
  let names = [];
  let job = "";
  let asking = false;

  async function meet() {
    const next = stage.dataset.job || "";
    if (next === job) return;
    job = next;
    known.clear();
    const kept = names[Number(choice.value)];
    const painted = next ? await server.regions(next) : [];
    if (next !== job) return;
    names = painted.length ? [say("painter.rest"), ...painted] : [];
    const alone = names.map((name, k) => new Option(say("painter.alone", { name }), k));
    choice.replaceChildren(new Option(say("painter.whole"), ""), ...alone);
    if (kept && names.includes(kept)) choice.value = String(names.indexOf(kept));
    look();
  }

  function question() {
    const step = Number(stage.querySelector('[data-part="step"]').value);
    const thumbs = [...stage.querySelectorAll(".thumb")];
    const picture = Math.max(thumbs.findIndex((thumb) => thumb.getAttribute("aria-pressed") === "true"), 0);
    return { job, region: Number(choice.value), step, picture };
  }

  async function look() {
    choice.hidden = !names.length || !stage.querySelector(".mat-picture img:not(.ghost)");
    if (choice.hidden || choice.value === "") {
      sheet.hidden = true;
      return;
    }
    const asked = question();
    const key = JSON.stringify(asked);
    if (known.has(key)) {
      show(asked, known.get(key));
      return;
    }
    if (asking) return; // the answer looks again
    asking = true;
    const answer = await answerTo(server.alone(asked));
    asking = false;
    if (asked.job === job) known.set(key, answer);
    if (asked.job === job && String(asked.region) === choice.value) show(asked, answer); // late is better than never
    look();
  }

  function show(asked, { url, error }) {
    line.textContent = error || "";
    sheet.hidden = false;
    image.hidden = !url;
    if (!url) return;
    image.src = new URL(url, document.baseURI).href;
    image.alt = say("painter.alone-step", { name: names[asked.region], step: asked.step });
  }

  choice.addEventListener("change", look);
  new MutationObserver(meet).observe(stage, { attributes: true, attributeFilter: ["data-job"] });
  new MutationObserver(look).observe(mat.querySelector(".mat-picture"), { childList: true, subtree: true });
  meet();
}
