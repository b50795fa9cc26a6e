// The dialog "Class". The teacher's page shows the projector's side, any other page plays. Events go to the server one
// at a time and come back through `told`; what others do is asked for again and again.
const EVERY = 1200; // milliseconds between two looks at the class
const PATIENCE = 8000; // milliseconds until a change counts as lost
const dialog = element.querySelector("dialog");
const part = (name) => dialog.querySelector(`[data-${name}]`);
const joined = new URLSearchParams(window.location.search).get("class") === "join"; // came by the phones' address
const LOST = tr("The connection to the class is lost; trying again …");
const BLANK = { secret: "", teacher: false, version: -1, round: -1, number: 0 };
let seat = { ...BLANK };
let dropped = new Set(), before = []; // squares; the choices before, for Undo
let asked = 0, answered = 0, again = false, lost = 0; // changes sent and answered; whether there are newer ones
let looking = 0;

const say = (words) => {
  part("said").textContent = words;
};
const fill = (name, words) => {
  const place = part(name);
  if (place && place.textContent !== words) place.textContent = words;
};

function open() {
  if (!dialog.open) dialog.showModal();
  if (!seat.secret) enter();
  clearTimeout(looking);
  look();
}

function enter(code) {
  say(tr("Joining …"));
  trigger("enter", code === undefined ? { phone: joined } : { code });
}

// --- what others do ---

async function look() {
  clearTimeout(looking);
  if (seat.secret && dialog.open && !document.hidden) {
    const mine = seat;
    try {
      const answer = await fetch(`class/now?board=${mine.version}&round=${mine.round}`, {
        headers: { "x-class-seat": mine.secret },
        cache: "no-store",
      });
      if (!answer.ok) throw new Error(answer.statusText);
      const now = await answer.json();
      if (mine === seat) show(now);
    } catch {
      say(LOST);
    }
  }
  if (dialog.open && element.isConnected) looking = setTimeout(look, EVERY);
}

function show(now) {
  if (!now.open) return closed();
  if (part("said").textContent === LOST) say("");
  fill("phones", String(now.phones));
  fill("phones-word", now.phones === 1 ? tr("phone") : tr("phones"));
  seat.number = now.number;
  if (now.round !== undefined) begin(now);
  if (now.version === undefined) return;
  seat.version = now.version;
  fill("title", now.title);
  fill("best", now.best);
  const focus = dialog.querySelector("[data-take]:focus")?.dataset.take;
  part("board").innerHTML = now.board;
  dialog.querySelector(`[data-phone="${seat.number}"]`)?.classList.add("msn-class-mine");
  if (focus) dialog.querySelector(`[data-take="${focus}"]`)?.focus();
}

function begin({ round, game, picture }) {
  const waiting = seat.round === -1 && round === 0; // the words about waiting are there already
  seat.round = round;
  dropped = new Set();
  before = [];
  answered = asked; // answers about the round before are not waited for
  again = false;
  dialog.style.setProperty("--class-picture", picture ? `url("${picture}")` : "none");
  dialog.classList.toggle("msn-class-running", round > 0);
  if (!waiting || seat.teacher) part("game").innerHTML = game;
  if (!seat.teacher) return;
  part("choose").hidden = round > 0;
  part("new").hidden = part("again").hidden = round === 0;
}

function closed() {
  seat = { ...BLANK };
  dialog.classList.remove("msn-class-running");
  dialog.style.removeProperty("--class-picture");
  part("view").innerHTML = '<button type="button" class="msn-button" data-open></button>';
  part("view").firstChild.textContent = tr("Join again");
  say(tr("The class was closed, and nothing of it is kept."));
}

// --- answers of the server ---

const answers = {
  enter({ seat: secret, teacher, view }) {
    seat = { ...BLANK, secret, teacher };
    say("");
    dialog.classList.toggle("msn-class-projector", teacher);
    part("view").innerHTML = view;
    look();
  },
  name({ title }) {
    fill("title", title);
    say(tr("You are {title} now.", { title }));
    look();
  },
  start: look,
  manage({ what }) {
    if (what === "close") {
      closed();
      return dialog.close();
    }
    look();
  },
  move({ said, best, same }) {
    if (answered !== asked || !said) return; // an older change
    fill("answer", said);
    fill("best", best);
    part("answer")?.classList.toggle("msn-class-lost", !same);
    part("answer")?.removeAttribute("aria-busy");
  },
};

window.msnClass = {
  told(text) {
    const { to, error, ...answer } = JSON.parse(text);
    if (to === "move") {
      if (answer.number <= answered) return;
      answered = answer.number;
      clearTimeout(lost);
    }
    if (error === undefined) {
      if (to === "start") say("");
      answers[to](answer);
    } else if (to === "move" && part("answer")) {
      part("answer").removeAttribute("aria-busy");
      fill("answer", error);
    } else say(error);
    if (to === "move" && again && error === undefined) send();
  },
};

// --- playing ---

const cells = () => [...dialog.querySelectorAll("[data-cell]")];

function choose(next) {
  say("");
  before.push(dropped);
  put(next);
}

function put(next) {
  dropped = next;
  for (const cell of cells()) cell.setAttribute("aria-pressed", String(dropped.has(Number(cell.dataset.cell))));
  part("undo").disabled = before.length === 0;
  part("all").disabled = dropped.size === 0;
  part("answer").setAttribute("aria-busy", "true");
  if (answered === asked) send();
  else again = true;
}

function send() {
  again = false;
  asked += 1;
  trigger("move", { round: seat.round, number: asked, dropped: [...dropped] });
  clearTimeout(lost);
  lost = setTimeout(() => {
    answered = asked; // this one is lost; the next one is sent at once
    send();
  }, PATIENCE);
}

async function start(what) {
  say(tr("Measuring what a random choice needs; the round starts in a few seconds …"));
  if (what.file === undefined) return trigger("start", what);
  try {
    trigger("start", { paths: [(await upload(what.file)).path] });
  } catch {
    say(tr("{name} could not be sent: it is larger than 200 MB, or the connection broke. Try again.", what.file));
  }
}

const clicks = {
  open,
  close: () => dialog.close(),
  cell: ({ cell }) => choose(toggled(dropped, Number(cell), cells().length)),
  drop: ({ drop }) => choose(thinned(dropped, Number(drop), cells().length)),
  undo: () => put(before.pop()),
  all: () => choose(new Set()),
  example: ({ example }) => start({ example }),
  own: () => start({ own: true }),
  again: () => trigger("manage", { what: "again" }),
  take: ({ take }) => trigger("manage", { what: "take", number: Number(take) }),
  new() {
    part("choose").hidden = !part("choose").hidden;
    if (!part("choose").hidden) part("choose").querySelector("button").focus();
  },
  end() {
    if (window.confirm(tr("Close the class? Board, names and picture are deleted."))) trigger("manage", { what: "close" });
  },
  show({ show: number }) {
    for (const place of dialog.querySelectorAll("[data-place]")) place.hidden = place.dataset.place !== number;
    for (const button of dialog.querySelectorAll("[data-show]")) {
      button.setAttribute("aria-pressed", String(button.dataset.show === number));
    }
  },
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  const name = Object.keys(clicks).find((one) => button?.dataset[one] !== undefined);
  if (name) clicks[name](button.dataset);
});
element.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.dataset.name !== undefined) trigger("name", { name: event.target.querySelector("input").value });
  else enter(event.target.querySelector("input").value);
});
element.addEventListener("change", (event) => {
  const input = event.target.closest("[data-file]");
  if (!input?.files.length) return;
  const [file] = input.files;
  input.value = ""; // so that the same file can be chosen again
  start({ file });
});
element.addEventListener("keydown", (event) => {
  if (event.target.matches("[data-file]") && event.key === "Enter") {
    event.preventDefault(); // browsers open the chooser on the space bar only
    event.target.click();
  }
  const cell = event.target.closest("[data-cell]");
  if (!cell || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = cells(), columns = Number(cell.parentNode.dataset.columns);
  const to = moved(event.key, all.indexOf(cell), all.length, columns);
  if (to < 0) return;
  event.preventDefault();
  cell.tabIndex = -1;
  all[to].tabIndex = 0;
  all[to].focus();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && dialog.open) look();
});

// A phone that came by the address of the class finds the dialog open, once the page has its visit.
if (joined) {
  const ready = setInterval(() => {
    if (element.isConnected && !window.msnTab) return;
    clearInterval(ready);
    if (element.isConnected) open();
  }, 100);
}
