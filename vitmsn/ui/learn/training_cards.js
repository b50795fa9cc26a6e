// A click (or Enter) on a run opens its film.
element.addEventListener("click", (event) => {
  const card = event.target.closest("button[data-letter]");
  if (card) trigger("click", {letter: card.dataset.letter});
});
