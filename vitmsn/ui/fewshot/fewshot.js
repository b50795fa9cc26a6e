// Sends pictures from drop zones (chosen, dropped, pasted or photographed), and handles clicks on the page. Answers
// replace the contents of `element`, so there is one listener of each kind, on `element`; zones are found again by
// name, and the focus returns to the button that had it.

const zone = (name) => element.querySelector(`[data-drop="${CSS.escape(name)}"]`);
const around = (node) => (node instanceof Element ? node.closest("[data-drop]") : null);
const say = (name, words) => {
  const line = zone(name)?.querySelector("[data-said]");
  if (line) line.textContent = words;
};

async function send(name, files) {
  const paths = [], failed = [];
  for (const [index, file] of files.entries()) {
    say(name, tr("Sending {count} of {total} …", { count: index + 1, total: files.length }));
    try {
      paths.push((await upload(file)).path);
    } catch {
      failed.push(file.name);
    }
  }
  say(name, failed.length ? tr("Could not be sent: {names}. Larger than 200 MB, or the connection broke.", { names: failed.join(", ") }) : "");
  if (paths.length) trigger("files", { to: name, paths });
}

// The control that has the focus. An answer replaces it, and the one in its place gets the focus: the same one, the
// class under its new name, another one for the same picture, Undo, or the whole list.
let held = null, renamed = null, key = ""; // key: the last one pressed there
const KEYS = ["act", "id", "text", "pick", "rename", "merge", "correct", "camera"];
const keyOf = (node) => KEYS.map((name) => node?.dataset?.[name] ?? "").join("\u0000");
element.addEventListener("focusin", (event) => {
  held = event.target;
  key = "";
});
element.addEventListener("focusout", (event) => {
  if (held?.isConnected && event.relatedTarget && !element.contains(event.relatedTarget)) held = null;
});
function focusAgain() {
  const lost = held && !held.isConnected && document.activeElement === document.body;
  if (!lost) return;
  const all = [...element.querySelectorAll("button, select, input, summary")].filter((node) => node.offsetParent);
  const id = held.dataset.id || held.dataset.correct || held.dataset.pick;
  const next = all.find((node) => renamed && node.dataset.rename === renamed[1] && held.dataset.rename === renamed[0]) ??
    all.find((node) => keyOf(node) === keyOf(held) && node.tagName === held.tagName && node.dataset.rename === held.dataset.rename) ??
    all.find((node) => id && [node.dataset.id, node.dataset.correct, node.dataset.pick].includes(id)) ??
    all.find((node) => node.dataset.act === "undo") ?? element.querySelector(".msn-cards") ?? all[0];
  next?.focus({ preventScroll: true });
  renamed = null;
}
const ask = (what) => trigger("act", what);
function rename(input) {
  if (input.msnSent === input.value) return;
  input.msnSent = input.value;
  renamed = [input.dataset.rename, input.value.trim()];
  ask({ act: "rename", id: input.dataset.rename, text: input.value });
}

// Chosen pictures, by id. Another set reuses the same ids, so each picture's source is kept too: an id that now shows
// another picture is dropped.
const picked = new Map();
const source = (button) => button.querySelector("img").src;
const pick = (button) => picked.set(button.dataset.pick, source(button));
function showPicked() {
  for (const button of element.querySelectorAll("[data-pick]")) {
    button.setAttribute("aria-pressed", String(picked.has(button.dataset.pick)));
  }
  const bar = element.querySelector(".msn-picked");
  if (!bar) return;
  bar.hidden = picked.size === 0;
  bar.querySelector("[role=status]").textContent = tr("{many} chosen", { many: picked.size });
  const last = element.querySelector(`[data-pick="${CSS.escape([...picked.keys()].at(-1) ?? "")}"]`);
  last?.closest("ul").after(bar); // beside the pictures it acts on
}
function withPicked(what) {
  const ids = [...picked.keys()];
  picked.clear();
  showPicked();
  if (ids.length) ask({ ...what, ids, id: ids[0] });
}

element.addEventListener("change", (event) => {
  const input = event.target;
  if (input.matches("input[type=file]")) {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    send(around(input).dataset.drop, files);
  } else if (input.matches("[data-rename]")) {
    rename(input);
  } else if (input.matches("select") && input.value && !walks(input)) {
    commit(input);
  }
});
// A menu acts on a click, or on Enter: with the arrow keys one walks through its entries first.
const walks = (menu) => menu === document.activeElement && key !== "" && key !== "Enter" && key !== " ";
function commit(menu) {
  if (menu.dataset.move !== undefined) withPicked({ act: "move", text: menu.value });
  if (menu.dataset.merge) ask({ act: "merge", id: menu.dataset.merge, text: menu.value });
  if (menu.dataset.correct) ask({ act: "correct", id: menu.dataset.correct, text: menu.value });
  menu.value = "";
}
element.addEventListener("pointerdown", () => {
  key = "";
}, true);
element.addEventListener("focusout", (event) => {
  if (event.target.matches("select")) event.target.value = "";
});
element.addEventListener("keydown", (event) => {
  const at = event.target;
  key = event.key;
  if (at.matches("select") && event.key === "Enter" && at.value) {
    event.preventDefault();
    commit(at);
  }
  if (at.matches("input[type=file]") && event.key === "Enter") {
    event.preventDefault(); // browsers open the chooser on the space bar only
    at.click();
  }
  if (at.dataset.pick && (event.key === "Delete" || event.key === "Backspace")) {
    event.preventDefault();
    pick(at);
    withPicked({ act: "remove" });
  }
  if (event.key === "Escape") {
    const menu = at.closest("details.msn-menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    if (at.dataset.pick) {
      picked.clear();
      showPicked();
    }
  }
  if (!at.matches("[data-rename]")) return;
  if (event.key === "Escape") at.value = at.getAttribute("value");
  if (event.key === "Enter" && at.value !== at.getAttribute("value")) rename(at);
});
element.addEventListener("click", (event) => {
  for (const menu of element.querySelectorAll("details.msn-menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const button = event.target.closest("button");
  if (!button) return;
  const { act, id, text } = button.dataset;
  if (act && event.detail < 2) ask({ act, id, text }); // a double click is one
  if (button.dataset.pick) {
    if (!picked.delete(button.dataset.pick)) pick(button);
    showPicked();
  }
  if (button.dataset.save !== undefined) document.getElementById("fewshot-bundle")?.click();
  if (button.dataset.remove !== undefined) withPicked({ act: "remove" });
  if (button.dataset.letGo !== undefined) {
    picked.clear();
    showPicked();
  }
  if (button.dataset.camera !== undefined) photographs(around(button).dataset.drop, button.dataset.camera);
});
// After an answer, name fields show the class's current name: a refused name is reset.
watch("value", () => {
  for (const input of element.querySelectorAll("[data-rename]")) {
    if (input === document.activeElement && input.msnSent !== input.value) continue; // being typed
    input.value = input.getAttribute("value");
    delete input.msnSent;
  }
  const there = new Set([...element.querySelectorAll("[data-pick]")].map((button) => button.dataset.pick + source(button)));
  for (const [id, src] of picked) if (!there.has(id + src)) picked.delete(id);
  showPicked();
  focusAgain();
  nameSet();
});

// The address says which set is here; own pictures are in no link.
function nameSet() {
  const name = element.querySelector(".msn-cards")?.dataset.set;
  const written = new URL(window.location).searchParams.has("set");
  if (name && (name === "own" || written)) window.msnAddress?.keep("set", name);
}
nameSet();

// Warn before leaving the page with unsaved pictures of one's own; `msnSaved` is the version last saved as a set.
addEventListener("beforeunload", (event) => {
  const cards = element.querySelector(".msn-cards[data-own]");
  const saved = [cards?.dataset.version, "all"].includes(window.msnSaved);
  if (element.isConnected && cards && !saved) event.preventDefault();
});

for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  element.addEventListener(kind, (event) => {
    const target = around(event.target);
    if (!target || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    target.classList.toggle("msn-over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") send(target.dataset.drop, [...event.dataTransfer.files]);
  });
}
element.addEventListener("paste", (event) => {
  const target = around(event.target);
  const files = [...(event.clipboardData?.files ?? [])];
  if (!target || !files.length) return;
  event.preventDefault();
  send(target.dataset.drop, files);
});

// The camera, outside `element` so that answers do not remove it.
async function photographs(name, title) {
  const shots = await window.msnPhotograph({
    title,
    into: element.parentElement,
    side: 640,
    most: 100,
    take: tr("Take (hold for more)"),
    done: tr("Done"),
    instead: {
      denied: tr("The camera was not allowed or there is none; allow it in the address bar, or add files instead."),
      insecure: tr("Browsers give the camera to https pages only; add files instead."),
    },
  });
  if (shots.length) send(name, shots);
}
