// Upload the visitor's own picture: by drop anywhere on the page, by paste, or by the upload button. The shown picture
// is replaced only when the server has the new one; Gradio's own component would delete it before.
const picture = () => document.querySelector(`#picture-${window.msnTab}`);
const here = () => element.isConnected && element.offsetParent !== null && picture() !== null;
// Whether an element belongs to another place that takes files: several pictures, a zip.
const elsewhere = (node) => {
  const block = node instanceof Element ? node.closest("[data-drop], .block:has(input[type=file])") : null;
  return block !== null && block !== picture();
};
const say = (words) => {
  const line = element.querySelector("[data-said]");
  if (line) line.textContent = words;
};

async function take(files) {
  const [file] = files;
  if (!file) return;
  picture().classList.add("msn-sending");
  const { name } = file;
  say(files.length > 1 ? tr("Sending the first of {many} pictures …", { many: files.length }) : tr("Sending {name} …", { name }));
  try {
    trigger("files", { paths: [(await upload(file)).path] });
    say("");
  } catch {
    say(tr("{name} could not be sent: it is larger than 200 MB, or the connection broke. Try again.", { name }));
  }
  picture()?.classList.remove("msn-sending");
}

const chooser = document.createElement("input");
chooser.type = "file";
chooser.accept = "image/*,.heic,.heif,.avif,.tif,.tiff";
chooser.addEventListener("change", () => {
  const files = [...chooser.files];
  chooser.value = ""; // so that the same file can be chosen again
  take(files);
});

// In the capture phase: before Gradio's listeners, which would clear the picture.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    if (!here() || !event.dataTransfer?.types.includes("Files") || elsewhere(event.target)) return;
    event.preventDefault();
    event.stopPropagation();
    picture().classList.toggle("msn-over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  }, true);
}
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!here() || !files.length || elsewhere(event.target)) return;
  event.preventDefault();
  event.stopPropagation();
  take(files);
}, true);
document.addEventListener("click", (event) => {
  if (!here() || !(event.target instanceof Element)) return;
  const button = event.target.closest("button[aria-label='Upload file'], button.upload-container");
  if (!button || !picture().contains(button)) return;
  event.preventDefault();
  event.stopPropagation();
  chooser.click();
}, true);
