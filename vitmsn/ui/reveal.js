// Scroll to a result that is out of sight.
(id) => {
  const result = document.getElementById(id), box = result?.getBoundingClientRect();
  if (!box?.height || (box.top >= 0 && box.top < window.innerHeight - 160)) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  result.scrollIntoView({ block: box.height < window.innerHeight / 2 ? "nearest" : "start", behavior: still ? "auto" : "smooth" });
}
