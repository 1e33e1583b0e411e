// What the browser keeps. where: "session", this tab's over a reload, or "local", every tab's.

// The value kept under a key; null where there is none, or none that can be read.
export function read(where, key) {
  try {
    return JSON.parse(window[`${where}Storage`].getItem(key));
  } catch {
    return null;
  }
}

export function write(where, key, value) {
  try {
    window[`${where}Storage`].setItem(key, JSON.stringify(value));
  } catch { /* full, or forbidden in private windows: then a reload starts anew */ }
}

export function forget(where, key) {
  try {
    window[`${where}Storage`].removeItem(key);
  } catch { /* nothing was kept */ }
}
