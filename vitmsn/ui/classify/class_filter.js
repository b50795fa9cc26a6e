// Whether a class, by its words in lower case, is one that was typed for.
function wanted(words, typed) {
  return words.includes(typed.trim().toLowerCase());
}
