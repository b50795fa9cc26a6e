// A click (or Enter) chooses that mask.
element.addEventListener("click", (event) => {
  const one = event.target.closest("button[data-seed]");
  if (one) trigger("click", {seed: Number(one.dataset.seed)});
});
