// Gradio's picture panels refuse what the browser does not know as a picture by its name: HEIC from a phone, a photo
// called .jpg_large. Such files go on under a type of ours; the server looks at their content and says what is wrong.
() => {
  if (window.msnTakesAnyFile) return;
  window.msnTakesAnyFile = true;
  const strange = (files) => [...files].some((file) => !file.type.startsWith("image/"));
  const retyped = (files) => {
    const passed = new DataTransfer();
    for (const file of files) {
      passed.items.add(file.type.startsWith("image/") ? file : new File([file], file.name, { type: "image/x-unknown" }));
    }
    return passed;
  };
  const choosesPictures = (input) => input?.type === "file" && input.accept.split(",").includes("image/*");

  document.addEventListener("click", (event) => {
    if (choosesPictures(event.target)) event.target.accept = "image/*,.heic,.heif,.avif,*/*"; // nothing is greyed out
  }, true);
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (!choosesPictures(input) || !strange(input.files)) return;
    event.stopImmediatePropagation();
    input.files = retyped(input.files).files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, true);
  document.addEventListener("drop", (event) => {
    const files = event.dataTransfer?.files ?? [];
    const input = event.target.closest?.(".block")?.querySelector("input[type=file]");
    if (!choosesPictures(input) || !strange(files)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    event.target.dispatchEvent(
      new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: retyped(files) }),
    );
  }, true);
}
