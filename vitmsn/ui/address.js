// The address says what the page shows: the tab, the step of Learn, the example, the settings. Another tab or step is a
// new entry of the browser's history, so Back and Forward walk through them; a setting only changes the entry. Each
// entry keeps its own tab and step in its state, because its address need not say them, and a reload forgets the rest.
const STEPS = ["tab", "step"];
const settings = () => new URL(window.location).searchParams;
let latest = settings();

// The state of an entry that shows this tab and step.
const entry = (tab, step) => ({ ...window.history.state, msn: { tab, step } });

// Write a setting into the address; one without a value goes from it.
function write(name, value, how) {
  latest = settings();
  if (latest.get(name) === (value === null ? null : String(value))) return;
  if (value === null) latest.delete(name);
  else latest.set(name, value);
  const url = new URL(window.location);
  url.search = latest;
  const state = window.msnTab ? entry(window.msnTab, latest.get("step") ?? "1") : window.history.state;
  window.history[how](state, "", url);
  tellSpace();
}

// On a Space this page is a frame of huggingface.co, whose address is the one that people see and copy. It passes its
// query on when it opens, and takes a new one as a message. Names that begin with "__" are Gradio's and the Space's own.
const SPACES = "https://huggingface.co";
const above = window.parent === window ? "" : (window.location.ancestorOrigins?.[0] ?? document.referrer);

function tellSpace() {
  if (new URL(above || "about:blank").origin !== SPACES) return;
  const shown = new URLSearchParams([...settings()].filter(([name]) => !name.startsWith("__")));
  window.parent.postMessage({ queryString: shown.toString() }, SPACES);
}

window.msnAddress = {
  keep(name, value) {
    const step = name === "step" && window.msnTab === "learn";
    write(name, value, step ? "pushState" : "replaceState");
  },
  drop(name) {
    write(name, null, "replaceState");
  },
  open(tab) {
    write("tab", tab, "pushState");
  },
  begin(tab) {
    window.history.replaceState(entry(tab, settings().get("step") ?? "1"), "");
  },
};

// A tab that the visitor opens before the page has loaded is opened again when it has (page_loaded.js).
addEventListener("click", (event) => {
  const tab = window.msnTab ? null : event.target.closest?.("[role=tab]");
  if (tab && event.isTrusted) window.msnWanted = tab.dataset.tabId;
}, true);

// The entry that came back holds old settings: it gets those of now, and the page follows its tab and step.
addEventListener("popstate", () => {
  if (!window.msnTab) return;
  const there = { tab: window.msnTab, step: "1", ...window.history.state?.msn };
  for (const name of STEPS) latest.set(name, there[name]);
  const url = new URL(window.location);
  url.search = latest;
  window.history.replaceState(window.history.state, "", url);
  tellSpace();
  if (there.tab !== window.msnTab) document.getElementById(`tab-${there.tab}-button`)?.click();
  const step = document.querySelectorAll("#learn-step input")[Number(there.step) - 1];
  if (step && !step.checked) step.click();
});
