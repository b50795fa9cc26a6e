// Typing hides the classes that do not contain the text. One listener on the component, whose contents are replaced.
element.addEventListener("input", (event) => {
  let found = 0;
  for (const item of element.querySelectorAll("li")) {
    item.hidden = !wanted(item.dataset.words, event.target.value);
    found += item.hidden ? 0 : 1;
  }
  const said = element.querySelector("[role=status]");
  const { total } = said.dataset;
  said.textContent = found ? tr("{found} of {total} classes", { found, total }) : tr("Nothing like that; teach it in Few-shot.");
});
