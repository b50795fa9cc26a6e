// What is typed hides the classes that do not contain it. One listener on the component, which outlives its contents.
element.addEventListener("input", (event) => {
  let found = 0;
  for (const item of element.querySelectorAll("li")) {
    item.hidden = !wanted(item.dataset.words, event.target.value);
    found += item.hidden ? 0 : 1;
  }
  const said = element.querySelector("[role=status]");
  said.textContent = found ? `${found} of ${said.dataset.total} classes` : "Nothing like that; teach it in Few-shot.";
});
