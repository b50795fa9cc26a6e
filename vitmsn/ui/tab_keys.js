// The arrow keys, Home and End move along the tabs and open the one they reach, as a click on it would. The Tab key
// stops once, at the open tab, and goes on to its contents.
const LIST = "#work [role=tablist]";

addEventListener("keydown", (event) => {
  const here = event.target.closest?.("[role=tab]"), list = here?.closest(LIST);
  if (!list || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const tabs = [...list.querySelectorAll("[role=tab]")].filter((tab) => tab.offsetParent !== null);
  const to = nextTab(event.key, tabs.indexOf(here), tabs.length);
  if (to < 0) return;
  event.preventDefault();
  if (!window.msnTab) window.msnWanted = tabs[to].dataset.tabId; // opened again when the page has loaded
  tabs[to].click();
  tabs[to].focus();
});

function stops() {
  for (const tab of document.querySelectorAll(`${LIST} [role=tab]`)) {
    const stop = tab.getAttribute("aria-selected") === "true" ? 0 : -1;
    if (tab.tabIndex !== stop) tab.tabIndex = stop;
  }
}
stops();
new MutationObserver(stops).observe(document.body, {
  subtree: true, childList: true, attributes: true, attributeFilter: ["aria-selected"],
});
