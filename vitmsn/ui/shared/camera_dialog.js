// The camera in a dialog: a press takes a picture; where several are wanted, holding takes more. Resolves to the taken
// files once the dialog is closed. When there is no camera, `refused(words)` says so in the place that asked; without
// it, the dialog does. `into` is an element that no answer replaces; `side`: pixels of a picture's longer side.
window.msnPhotograph = async ({ title, into, side, most, take, done, instead, refused }) => {
  const dialog = document.createElement("dialog");
  dialog.className = "msn-camera";
  dialog.setAttribute("aria-label", title);
  dialog.innerHTML = `<video autoplay playsinline muted></video><p role="status"></p>
    <div><button type="button" data-take>${take}</button><button type="button" data-done>${done}</button></div>`;
  const video = dialog.querySelector("video"), line = dialog.querySelector("p"), button = dialog.querySelector("[data-take]");
  into.append(dialog);
  const shots = [];
  let stream = null, timer = 0;
  const release = () => clearInterval(timer);
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      release();
      stream?.getTracks().forEach((track) => track.stop());
      dialog.remove();
      resolve(shots);
    });
  });
  dialog.querySelector("[data-done]").addEventListener("click", () => dialog.close());
  line.textContent = tr("Asking for the camera …");
  button.disabled = true;
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch {
    const words = window.isSecureContext ? instead.denied : instead.insecure;
    if (refused && dialog.open) {
      dialog.close();
      refused(words);
    }
    line.textContent = words;
    return closed;
  }
  if (!dialog.open) {
    stream.getTracks().forEach((track) => track.stop());
    return closed;
  }
  video.srcObject = stream;
  line.textContent = title;
  button.disabled = false;
  const shoot = () => {
    if (!video.videoWidth || shots.length >= most) return;
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, side / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = video.videoWidth * scale;
    canvas.height = video.videoHeight * scale;
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => {
      shots.push(new File([blob], most > 1 ? `camera-${shots.length + 1}.jpg` : "camera.jpg", { type: "image/jpeg" }));
      if (most === 1) return dialog.close();
      line.textContent = tr("{many} taken", { many: shots.length });
    }, "image/jpeg", 0.92);
  };
  if (most > 1) {
    button.addEventListener("pointerdown", () => {
      shoot();
      release();
      timer = setInterval(shoot, 250);
    });
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(end, release);
  }
  button.addEventListener("click", (event) => {
    if (most === 1 || event.detail === 0) shoot(); // 0: by keyboard or a screen reader
  });
  return closed;
};
