// Hands the frames to the player (training_film.js), which may not be there yet.
function hand() {
  const reel = element.querySelector(".msn-reel");
  if (!reel) return;
  window.msnReel = JSON.parse(reel.dataset.reel);
  document.dispatchEvent(new Event("msn-reel"));
}
watch("value", hand);
hand();
