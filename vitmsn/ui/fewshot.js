// Pictures into a drop zone: chosen, dropped, pasted or photographed. The contents of `element` are rendered anew after
// every answer, so there is one listener of each kind, on `element`, and zones are found again by their name.

const zone = (name) => element.querySelector(`[data-drop="${CSS.escape(name)}"]`);
const around = (node) => (node instanceof Element ? node.closest("[data-drop]") : null);
const say = (name, words) => {
  const line = zone(name)?.querySelector("[data-said]");
  if (line) line.textContent = words;
};

async function send(name, files) {
  const paths = [], failed = [];
  for (const [index, file] of files.entries()) {
    say(name, `Sending ${index + 1} of ${files.length} …`);
    try {
      paths.push((await upload(file)).path);
    } catch {
      failed.push(file.name);
    }
  }
  say(name, failed.length ? `Could not be sent: ${failed.join(", ")}. Larger than 200 MB, or the connection broke.` : "");
  if (paths.length) trigger("files", { to: name, paths });
}

element.addEventListener("change", (event) => {
  const input = event.target;
  if (input.matches("input[type=file]")) {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    send(around(input).dataset.drop, files);
  } else if (input.matches("[data-rename]")) {
    trigger("act", { act: "rename", id: input.dataset.rename, text: input.value });
  }
});
element.addEventListener("keydown", (event) => {
  if (event.target.matches("input[type=file]") && event.key === "Enter") {
    event.preventDefault(); // browsers open the chooser on the space bar only
    event.target.click();
  }
  if (!event.target.matches("[data-rename]")) return;
  if (event.key === "Escape") event.target.value = event.target.getAttribute("value");
  if (event.key === "Enter" || event.key === "Escape") event.target.blur();
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.act) trigger("act", { act: button.dataset.act, id: button.dataset.id, text: button.dataset.text });
  if (button?.dataset.camera !== undefined) photograph(around(button).dataset.drop, button.dataset.camera);
});
// A name that was refused goes back to what it is; others follow their class.
watch("value", () => {
  for (const input of element.querySelectorAll("[data-rename]")) {
    if (input !== document.activeElement) input.value = input.getAttribute("value");
  }
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

// The camera: one dialog, outside `element` so that answers do not wipe it. Click for one picture, hold for more.
async function photograph(name, title) {
  const dialog = document.createElement("dialog");
  dialog.className = "msn-camera";
  dialog.setAttribute("aria-label", title);
  dialog.innerHTML = `<video autoplay playsinline muted></video><p role="status"></p>
    <div><button type="button" data-take>Take (hold for more)</button><button type="button" data-done>Done</button></div>`;
  const video = dialog.querySelector("video"), line = dialog.querySelector("p"), take = dialog.querySelector("[data-take]");
  element.parentElement.append(dialog);
  const shots = [];
  let stream = null, timer = 0;
  const release = () => clearInterval(timer);
  dialog.addEventListener("close", () => {
    release();
    stream?.getTracks().forEach((track) => track.stop());
    dialog.remove();
    if (shots.length) send(name, shots);
  });
  dialog.querySelector("[data-done]").addEventListener("click", () => dialog.close());
  line.textContent = "Asking for the camera …";
  take.disabled = true;
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch {
    line.textContent = window.isSecureContext
      ? "The camera was not allowed or there is none; allow it in the address bar, or add files instead."
      : "Browsers give the camera to https pages only; add files instead.";
    return;
  }
  if (!dialog.open) return stream.getTracks().forEach((track) => track.stop());
  video.srcObject = stream;
  line.textContent = title;
  take.disabled = false;
  const shoot = () => {
    if (!video.videoWidth || shots.length >= 100) return;
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, 640 / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = video.videoWidth * scale;
    canvas.height = video.videoHeight * scale;
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => {
      shots.push(new File([blob], `camera-${shots.length + 1}.jpg`, { type: "image/jpeg" }));
      line.textContent = `${shots.length} taken`;
    }, "image/jpeg", 0.92);
  };
  take.addEventListener("pointerdown", () => {
    shoot();
    release();
    timer = setInterval(shoot, 250);
  });
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) take.addEventListener(end, release);
  take.addEventListener("click", (event) => {
    if (event.detail === 0) shoot(); // by keyboard or a screen reader
  });
}
