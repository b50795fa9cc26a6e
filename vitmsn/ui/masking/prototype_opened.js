// On a phone the pictures of a prototype stand under the wall: scroll to them when they come.
watch("value", () => {
  if (element.querySelector("figure")) element.scrollIntoView({block: "nearest", behavior: "smooth"});
});
