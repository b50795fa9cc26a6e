// Take the visitor's own picture: by drop anywhere on the page, by paste, or by the buttons under the picture (a file,
// the camera, the clipboard). The shown picture is replaced only when the server has the new one; Gradio's own
// component would delete it before. What happens is said under the picture (`#said-TAB`).
const picture = () => document.querySelector(`#picture-${window.msnTab}`);
const here = () => Boolean(picture()?.offsetParent);
// Whether an element belongs to another place that takes files: several pictures, a zip.
const elsewhere = (node) => {
  const block = node instanceof Element ? node.closest("[data-drop], .block:has(input[type=file])") : null;
  return block !== null && block !== picture();
};
const part = (name) => document.querySelector(`#said-${window.msnTab} [data-${name}]`);
const say = (words) => {
  const line = part("said");
  if (line) line.textContent = words;
};

const SHOWN_AFTER = 250; // milliseconds: a faster upload shows nothing
const STOPPABLE_AFTER = 2000; // milliseconds after which it says how long, and can be stopped
let sending = null; // the request that runs

async function take(files) {
  const [file] = files;
  if (!file) return;
  sending?.abort(); // the last chosen picture counts
  const box = picture(), strip = document.querySelector(`#strip-${window.msnTab} .msn-strip-row`), line = part("said"), bar = part("sent"), left = part("left"), stop = part("stop");
  const { name } = file, begun = performance.now();
  let stopped = false;
  const show = () => {
    if (request !== sending) return;
    line.textContent = files.length > 1 ? tr("Sending the first of {many} pictures …", { many: files.length }) : tr("Sending {name} …", { name });
    bar.hidden = false;
  };
  const told = ({ loaded, total }) => {
    const elapsed = performance.now() - begun, { share, left: seconds } = uploadProgress(loaded, total, elapsed);
    if (share < 1) bar.value = share;
    else bar.removeAttribute("value"); // all bytes left; moving until the server has them
    const percent = trNumber(`${Math.round(share * 100)} %`);
    if (elapsed < STOPPABLE_AFTER) left.textContent = "";
    else left.textContent = seconds ? tr("{percent}, {seconds} s left", { percent, seconds }) : percent;
  };
  box.classList.add("msn-sending");
  bar.removeAttribute("value");
  const { sent, request } = window.msnUpload(file, told);
  sending = request;
  stop.onclick = () => {
    stopped = true;
    request.abort();
  };
  const clocks = [setTimeout(show, SHOWN_AFTER), setTimeout(() => {
    stop.hidden = request !== sending;
  }, STOPPABLE_AFTER)];
  let words = "", path = "";
  try {
    path = await sent;
  } catch {
    words = stopped
      ? tr("Stopped; the picture stays as it was.")
      : tr("{name} could not be sent: it is larger than 200 MB, or the connection broke. Try again.", { name });
  }
  clocks.forEach(clearTimeout);
  if (request !== sending) return; // another picture is on its way
  sending = null;
  if (path) strip.dispatchEvent(new CustomEvent("msn-files", { bubbles: true, detail: { paths: [path] } }));
  if (stop === document.activeElement) box.querySelector(".source-selection button")?.focus();
  bar.hidden = stop.hidden = true;
  left.textContent = "";
  line.textContent = words;
  box.classList.remove("msn-sending");
}

function chooser(accept, capture = "") {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = accept;
  if (capture) input.setAttribute("capture", capture);
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    take(files);
  });
  return input;
}
const file = chooser("image/*,.heic,.heif,.avif,.tif,.tiff");
const phone = chooser("image/*", "environment"); // opens the camera of a phone; it needs no permission

async function camera() {
  if (window.matchMedia("(pointer: coarse)").matches) return phone.click();
  const shots = await window.msnPhotograph({
    title: tr("The picture is sent when you take it."),
    into: picture().parentElement,
    side: 1920,
    most: 1,
    take: tr("Take the picture"),
    done: tr("Cancel"),
    instead: {
      denied: tr("The camera was not allowed or there is none; allow it in the address bar, or choose pictures instead."),
      insecure: tr("Browsers give the camera to https pages only; choose pictures instead."),
    },
    refused: say,
  });
  await take(shots);
}

async function clipboard() {
  if (!navigator.clipboard?.read) {
    return say(tr("This browser does not give the clipboard to a button here; press Ctrl+V (⌘V), or choose a picture instead."));
  }
  let items;
  try {
    items = await navigator.clipboard.read();
  } catch {
    return say(tr("The clipboard was not allowed; allow it in the address bar, press Ctrl+V (⌘V), or choose a picture instead."));
  }
  for (const item of items) {
    const type = item.types.find((one) => one.startsWith("image/"));
    if (!type) continue;
    return take([new File([await item.getType(type)], `clipboard.${type.slice(6).split("+")[0]}`, { type })]);
  }
  say(tr("There is no picture in the clipboard; copy one first, or choose a file."));
}

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
  if (!here() || !(event.target instanceof Element) || !picture().contains(event.target)) return;
  const button = event.target.closest(".source-selection button, button.upload-container");
  if (!button) return;
  event.preventDefault();
  event.stopPropagation();
  if (!sending) say("");
  const place = [...picture().querySelectorAll(".source-selection button")].indexOf(button); // in the order of app.py
  if (place === 1) camera();
  else if (place === 2) clipboard();
  else file.click();
}, true);
