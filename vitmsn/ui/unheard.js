// The sentences of `now` that are not among those `heard` before, as one text.
function unheard(now, heard) {
  return now.filter((one) => one && !heard.includes(one)).join(" ");
}
