// The live camera sends one small frame at a time, the next one after the answer to the last. The answer appears in a
// separate part of the page, which `data-said` names; its `data-n` is the number of the frame.

const SIDE = 160; // pixels of a frame's longer side
const PATIENCE = 3000; // milliseconds until a frame counts as lost
const video = element.querySelector("video"), button = element.querySelector("[data-live]");
const line = element.querySelector("[role=status]");
let stream = null, number = 0, sent = 0, times = [];

const place = () => document.getElementById(element.querySelector("[data-said]").dataset.said);
const answered = () => Number(place().querySelector("[data-n]")?.dataset.n ?? 0);
const answers = new MutationObserver(said); // they come as new contents, or as new values of the same

function send() {
  if (!stream || !video.videoWidth || document.hidden || !element.isConnected) return;
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, video.videoWidth * scale);
  canvas.height = Math.max(1, video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  sent = performance.now();
  number += 1;
  trigger("frame", { n: number, frame: canvas.toDataURL("image/jpeg", 0.85) });
}

function said() {
  if (!stream || answered() !== number) return;
  const now = performance.now();
  times = [...times.filter((time) => now - time < 2000), now];
  if (times.length > 2) {
    const rate = ((times.length - 1) / (now - times[0])) * 1000;
    line.textContent = tr("{rate} answers a second. The camera's pictures are not kept.", { rate: trNumber(rate.toFixed(1)) });
  }
  send();
}

function stop(words = "") {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  answers.disconnect();
  video.srcObject = null;
  video.hidden = true;
  button.textContent = tr("Live camera");
  button.setAttribute("aria-pressed", "false");
  line.textContent = words;
}

button.addEventListener("click", async () => {
  if (stream) return stop();
  line.textContent = tr("Asking for the camera …");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  } catch {
    return stop(
      window.isSecureContext
        ? tr("The camera was not allowed or there is none; allow it in the address bar, or choose pictures instead.")
        : tr("Browsers give the camera to https pages only; choose pictures instead."),
    );
  }
  button.textContent = tr("Stop the camera");
  button.setAttribute("aria-pressed", "true");
  line.textContent = tr("The camera's pictures are not kept.");
  video.hidden = false;
  video.srcObject = stream;
  times = [];
  answers.observe(place(), { attributes: true, childList: true, subtree: true });
  await video.play();
  send();
});

// A frame without an answer is given up after PATIENCE.
const clock = setInterval(() => {
  if (!element.isConnected) {
    clearInterval(clock);
    return stop();
  }
  if (stream && element.offsetParent === null) return stop(); // another tab was opened
  if (stream && performance.now() - sent > PATIENCE) send();
}, 500);
