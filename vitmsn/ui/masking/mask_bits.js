// Reads a mask from hexadecimal digits, four patches each: true where a patch is hidden.
function bits(hex) {
  return [...hex].flatMap((digit) => [8, 4, 2, 1].map((bit) => (Number.parseInt(digit, 16) & bit) > 0));
}
