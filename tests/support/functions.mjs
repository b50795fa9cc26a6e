// Load functions from a script of the page in node: such a script exports nothing.
import { readFileSync } from "node:fs";

export function functions(path, ...names) {
  const source = readFileSync(new URL(`../../vitmsn/ui/${path}`, import.meta.url), "utf8");
  return new Function(`${source}\nreturn { ${names.join(", ")} };`)();
}
