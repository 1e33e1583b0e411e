// The painting canvas with its tools, and the list of regions. Wires layout, view, tools and list together.

const from = (name) => import(new URL(`${name}${new URL(import.meta.url).search}`, import.meta.url));
const [masks, { Layout, remember, remembered }, { View, paintStack }, { Tools, TOOLS }, { List, grow }, stage, alone, { answerTo }, { say }] = await Promise.all(
  ["region_masks.js", "region_layout.js", "region_view.js", "region_tools.js", "region_list.js", "region_stage.js",
    "region_alone.js", "dom.js", "say.js"]
    .map(from));

const PAUSE = 350; // ms without a change after which the server is asked for the line of status
const TYPED = "input, textarea, select, [contenteditable]";

export function mount({ element, props, trigger, watch, upload, server }) {
  const part = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  const layout = new Layout(masks);
  const view = new View(part.canvas, layout, masks);
  const tools = new Tools({ canvas: part.canvas, layout, view, masks, done: changed, chosen: paint });
  const beside = stage.follow(element, { layout, view, paintStack, maskOf: (region) => view.maskOf(region),
    over: () => trigger("edit"), // the line of status learns how long a run takes
    found: (scores) => queueMicrotask(() => {
      list.found = scores;
      paint();
    }) });
  alone.offer(element, server);
  let pause = 0;
  part.canvas.setAttribute("aria-description", say("painter.keys"));
  for (const button of element.querySelectorAll("[data-key]")) {
    button.title = say("painter.with-key", { name: button.getAttribute("aria-label"), key: button.dataset.key });
  }

  // -- layout -> page, browser's memory, server

  // Something of the layout has changed.
  function changed() {
    view.changed();
    paint();
    beside.repaint();
    tell();
  }

  function tell() {
    props.value = layout.value();
    part.canvas.dataset.kept = "no";
    clearTimeout(pause);
    pause = setTimeout(() => {
      keep();
      trigger("edit");
    }, PAUSE);
  }

  function paint() {
    list.paint();
    part.weak.hidden = !list.weak.length;
    part.weak.textContent = say("painter.weak", { names: list.weak.join(say("regions.left.between")) });
    view.later();
    part.undo.disabled = !layout.past.length;
    part.redo.disabled = !layout.future.length;
    part.mirror.disabled = part.clear.disabled = part.save.disabled = !layout.regions.length;
    const { current } = layout;
    const bare = current && masks.bare(current.mask);
    part.hint.hidden = layout.regions.some((region) => !masks.bare(region.mask));
    part.hint.firstElementChild.textContent = bare ? say("painter.hint-named", { name: current.name })
      : say("painter.hint");
    part.hint.lastElementChild.hidden = Boolean(bare);
    part.listed.hidden = !layout.regions.length;
    if (part.prompt.value !== layout.prompt) part.prompt.value = layout.prompt;
    grow(part.prompt);
    for (const button of element.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === tools.tool));
    }
    for (const button of element.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === layout.view));
    }
    part.beneath.setAttribute("aria-pressed", String(view.beneath));
    part.size.value = String(tools.brush);
    part.size.max = String(Math.round(Math.min(layout.width, layout.height) * 0.6));
    const share = (tools.brush - part.size.min) / (part.size.max - part.size.min);
    part.size.style.setProperty("--part", `${100 * share}%`);
    part["size-text"].textContent = `${tools.brush} px`;
  }

  function keep() {
    if (!element.isConnected) return;
    part.canvas.dataset.kept = "yes";
    remember(layout.value());
  }

  // -- server -> layout

  function receive(value) {
    if (!value || !value.width) return;
    if (value.resize?.length) layout.resize(...value.resize);
    else if (!value.resize) layout.load(value);
    fit();
    changed();
  }

  function fit() {
    const room = part.mat.getBoundingClientRect();
    if (!room.width) return;
    const scale = Math.min(room.width / layout.width, room.height / layout.height);
    part.canvas.style.width = `${Math.floor(layout.width * scale)}px`;
    part.canvas.style.height = `${Math.floor(layout.height * scale)}px`;
    view.fit();
  }

  // Steps of the history may bring another size back.
  function travel(how) {
    const before = `${layout.width}x${layout.height}`;
    if (!layout[how]()) return;
    if (before !== `${layout.width}x${layout.height}`) trigger("sized", { width: layout.width, height: layout.height });
    fit();
    changed();
  }

  // -- the list

  const act = (name) => (id) => {
    layout[name](id);
    changed();
  };
  const find = (id) => layout.regions.find((region) => region.id === id);
  const list = new List(part.list, layout, {
    select(id) {
      if (layout.selected === id || !find(id)) return;
      layout.selected = id;
      paint();
    },
    text(id, key, text) {
      find(id)[key] = text;
      if (list.found.size) paint(); // a score is that of the prompt it was given for
      view.later();
      tell();
    },
    rename(id, name) {
      const given = name.trim() || find(id).name;
      if (given !== find(id).name) layout.change(id, { name: given });
      changed();
    },
    color(id, color) {
      layout.change(id, { color });
      changed();
    },
    visible(id) {
      layout.change(id, { visible: !find(id).visible });
      changed();
    },
    mirror(id) {
      layout.change(id, { mask: masks.mirror(find(id).mask, layout.width) });
      changed();
    },
    clear(id) {
      layout.change(id, { mask: new Uint8Array(layout.size) });
      changed();
    },
    order(id, by) {
      if (layout.reorder(id, by)) changed();
    },
    solo: act("solo"), remove: act("remove"), duplicate: act("duplicate"),
  });

  // -- buttons and keys

  function pick(tool) {
    tools.pick(tool);
    paint();
  }

  function brush(size) {
    tools.brush = Math.round(Math.min(Math.max(size, part.size.min), part.size.max));
    paint();
  }

  for (const button of element.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => pick(button.dataset.tool));
  }
  for (const button of element.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => {
      layout.view = button.dataset.view;
      changed();
    });
  }
  part.beneath.addEventListener("click", () => {
    view.beneath = !view.beneath;
    paint();
  });
  part.size.addEventListener("input", () => brush(Number(part.size.value)));
  part.undo.addEventListener("click", () => travel("undo"));
  part.redo.addEventListener("click", () => travel("redo"));
  part.mirror.addEventListener("click", act("mirrorAll"));
  part.clear.addEventListener("click", act("clearAll"));
  part.add.addEventListener("click", () => {
    const made = layout.add();
    changed();
    list.focusPrompt(made.id);
  });
  part.prompt.addEventListener("input", () => {
    layout.prompt = part.prompt.value;
    grow(part.prompt);
    view.later();
    tell();
  });

  function press(event) {
    const free = event.target === document.body || (element.contains(event.target) && !event.target.closest(TYPED));
    if (!free || event.altKey || !element.offsetParent) return;
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (command && (key === "z" || key === "y")) travel(key === "y" || event.shiftKey ? "redo" : "undo");
    else if (command) return;
    else if (Object.values(TOOLS).includes(key.toUpperCase())) {
      pick(Object.keys(TOOLS).find((tool) => TOOLS[tool] === key.toUpperCase()));
    } else if (key === "[" || key === "]") brush(tools.brush * (key === "]" ? 1.2 : 1 / 1.2) + (key === "]" ? 1 : -1));
    else if (/^[1-9]$/.test(key) && layout.regions[Number(key) - 1]) {
      layout.selected = layout.regions[Number(key) - 1].id;
      paint();
    } else if (event.target === part.canvas && key === "enter") tools.centre();
    else if (event.target === part.canvas && key === "delete" && layout.current) act("remove")(layout.selected);
    else if (event.target === part.canvas && key === "escape") tools.cancel();
    else if (event.target === part.canvas && tools.tool === "move" && key.startsWith("arrow")) {
      const by = event.shiftKey ? layout.cell : 1;
      const right = (key === "arrowright") - (key === "arrowleft");
      const down = (key === "arrowdown") - (key === "arrowup");
      tools.nudge(by * right, by * down);
    } else return;
    event.preventDefault();
  }

  // -- files: a layout, or a picture that was made here

  async function open(file) {
    if (!file) return;
    part.drop.hidden = true;
    const { path } = await upload(file);
    trigger("opened", { path, name: file.name });
  }

  part.open.addEventListener("click", () => part.file.click());
  part.file.addEventListener("change", () => {
    open(part.file.files[0]);
    part.file.value = "";
  });
  part.save.addEventListener("click", () => trigger("saved"));
  part.preset.addEventListener("change", () => {
    if (part.preset.value) trigger("preset", { name: part.preset.value });
    part.preset.value = "";
  });
  async function offer() {
    const { names = [] } = await answerTo(server.layouts({}));
    part.preset.replaceChildren(part.preset.options[0], ...names.map((name) => new Option(name, name)));
  }
  window.addEventListener("latent-loom:layouts", offer);
  offer();

  const ground = element.closest(".regions-bench") || element;
  let over = 0;
  const kinds = ["Files", "text/uri-list"];
  const carries = (event) => kinds.some((kind) => [...(event.dataTransfer?.types || [])].includes(kind));
  ground.addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    over += 1;
    part.drop.hidden = false;
  });
  ground.addEventListener("dragleave", () => {
    over = Math.max(0, over - 1);
    part.drop.hidden = over === 0;
  });
  ground.addEventListener("dragover", (event) => {
    if (carries(event)) event.preventDefault();
  });
  ground.addEventListener("drop", async (event) => {
    over = 0;
    part.drop.hidden = true;
    if (!carries(event)) return;
    event.preventDefault();
    event.stopPropagation();
    const [file] = event.dataTransfer.files;
    if (file) open(file);
    else open(await fetched(event.dataTransfer.getData("text/uri-list").split("\n")[0]));
  });

  // Generate sends the layout itself: what the server would say to the last edit comes with its answer.
  document.addEventListener("click", (event) => {
    if (!element.offsetParent || !event.target.closest?.(".generate")) return;
    clearTimeout(pause);
    keep();
  }, true);

  // -- beginning

  document.addEventListener("keydown", press);
  const onCells = (event) => {
    view.cells = event.detail;
    view.later();
  };
  window.addEventListener("latent-loom:cells", onCells);
  window.addEventListener("pagehide", () => props.value?.regions && keep());
  new ResizeObserver(fit).observe(part.mat);
  new IntersectionObserver(() => element.offsetParent && (fit(), paint())).observe(element);
  watch("value", () => receive(props.value));

  const kept = props.value?.fresh ? remembered() : null;
  layout.load(kept || props.value, false);
  if (props.value?.resize?.length) layout.resize(...props.value.resize); // another model was chosen meanwhile
  layout.view = "paint";
  if (kept) trigger("sized", { width: layout.width, height: layout.height });
  pick("brush");
  fit();
  changed();
  part.canvas.dataset.ready = "yes";
}

// A picture of this studio that was dragged from the stage.
async function fetched(address) {
  if (!address || new URL(address, document.baseURI).origin !== location.origin) return null;
  const answer = await fetch(address);
  return answer.ok ? new File([await answer.blob()], address.split("/").at(-1)) : null;
}
