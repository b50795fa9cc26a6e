// Gradio names the buttons of a picture in English or in words of its own; the page does it in its language.
const NAMES = {
  "Upload file": () => tr("Upload file"),
  "Capture from camera": () => tr("Capture from camera"),
  "Paste from clipboard": () => tr("Paste from clipboard"),
  Fullscreen: () => tr("Fullscreen"),
  "Exit fullscreen mode": () => tr("Exit fullscreen mode"),
  "Remove Image": () => tr("Remove Image"),
  Download: () => tr("Download"),
};
function nameButtons() {
  for (const button of document.querySelectorAll(".msn-picture button[aria-label], .msn-map button[aria-label]")) {
    const is = button.getAttribute("aria-label"), place = button.matches(".upload-container");
    const words = place ? tr("Drop a picture here, or press to choose one") : NAMES[is]?.();
    if (words && words !== is) button.setAttribute("aria-label", words);
    if (words && !place && button.title !== words) button.title = words;
  }
}
nameButtons();
new MutationObserver(nameButtons).observe(document.documentElement, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"] });
