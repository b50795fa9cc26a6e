// Compares two cells by their values, given as text: numbers as numbers, anything else as words.
function order(one, other) {
  const numbers = one !== "" && other !== "" && !Number.isNaN(Number(one)) && !Number.isNaN(Number(other));
  return numbers ? one - other : one.localeCompare(other);
}
