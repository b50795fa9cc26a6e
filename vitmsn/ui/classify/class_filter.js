// Whether a class, given its words in lower case, contains the typed text.
function wanted(words, typed) {
  return words.includes(typed.trim().toLowerCase());
}
