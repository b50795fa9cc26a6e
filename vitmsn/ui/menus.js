// A click on a menu that Escape has closed opens it again. Gradio opens a menu when it gets the focus, and after Escape
// it still has it: give the focus up first, and the click brings it back.
addEventListener("mousedown", (event) => {
  const menu = event.target.closest?.(".wrap-inner")?.querySelector("input[role=combobox][aria-expanded=false]");
  if (menu && menu === document.activeElement) menu.blur();
}, true);
