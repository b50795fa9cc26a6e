// How far an upload is: the share of its bytes that left, and the seconds that the others need at the same pace (null
// while nobody can know).
function uploadProgress(loaded, total, milliseconds) {
  const share = total > 0 ? Math.min(1, loaded / total) : 0;
  const left = share > 0 && milliseconds >= 1000 ? Math.ceil(((milliseconds / 1000) * (1 - share)) / share) : null;
  return { share, left };
}
