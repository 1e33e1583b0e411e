// Small makers that the page's scripts share. Text goes in as text, never as HTML.

export function tag(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function button(text, kind, act) {
  const made = tag("button", text, kind);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export function seconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
}

// Gives the browser a file of this server.
export function download(address, name) {
  const link = document.createElement("a");
  link.href = new URL(address, document.baseURI).href;
  link.download = name;
  link.click();
}
