// The tree of groups: open and close, walk by arrow keys, move by drag or by key. A move always asks first, in its dialog.
(() => {
  const tree = document.querySelector("[data-tree]");
  if (!tree) return;
  const rows = () => [...tree.querySelectorAll("tr[data-node]")];
  const byNode = (id) => tree.querySelector(`tr[data-node="${CSS.escape(id)}"]`);
  const parentOf = (row) => (row.dataset.parent ? byNode(row.dataset.parent) : null);
  const isOpen = (row) => row.getAttribute("aria-expanded") === "true";
  const visible = () => rows().filter((row) => !row.hidden);

  function show() {
    for (const row of rows()) {
      const parent = parentOf(row);
      row.hidden = Boolean(parent && (parent.hidden || !isOpen(parent)));
    }
  }

  function open(row, wanted) {
    if (!row.hasAttribute("aria-expanded")) return;
    row.setAttribute("aria-expanded", String(wanted));
    show();
  }

  function focus(row) {
    if (!row) return;
    for (const other of rows()) other.tabIndex = -1;
    row.tabIndex = 0;
    row.focus();
  }

  // Opens the dialog that says what the move changes; `to` is chosen already, or left to be chosen.
  function ask(row, to) {
    if (!row?.dataset.move) return;
    const url = to ? `${row.dataset.move}?to=${encodeURIComponent(to.dataset.node)}` : row.dataset.move;
    window.htmx.ajax("GET", url, { target: "#dialog-body", swap: "innerHTML" });
  }

  function brotherAbove(row) {
    const brothers = visible().filter((other) => other.dataset.parent === row.dataset.parent);
    return brothers[brothers.indexOf(row) - 1];
  }

  const KEYS = {
    ArrowDown: (row) => focus(visible()[visible().indexOf(row) + 1]),
    ArrowUp: (row) => focus(visible()[visible().indexOf(row) - 1]),
    ArrowRight: (row) => (isOpen(row) ? focus(rows().find((other) => other.dataset.parent === row.dataset.node)) : open(row, true)),
    ArrowLeft: (row) => (isOpen(row) ? open(row, false) : focus(parentOf(row))),
    Home: () => focus(visible()[0]),
    End: () => focus(visible().at(-1)),
    Enter: (row) => row.querySelector("a[data-row-link]").click(),
    m: (row) => ask(row),
    "Shift+ArrowRight": (row) => brotherAbove(row) && ask(row, brotherAbove(row)),
    "Shift+ArrowLeft": (row) => parentOf(row) && parentOf(parentOf(row)) && ask(row, parentOf(parentOf(row))),
  };
  tree.addEventListener("keydown", (event) => {
    const row = event.target;
    if (!row.matches("tr[data-node]") || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = KEYS[event.shiftKey ? `Shift+${event.key}` : event.key];
    if (!act) return;
    event.preventDefault();
    act(row);
  });
  tree.addEventListener("click", (event) => {
    const row = event.target.closest(".gh-tree-toggle")?.closest("tr");
    if (row) open(row, !isOpen(row));
  });

  // --- drag -------------------------------------------------------------------------------------
  let dragged = null;
  const isBelow = (row, above) => Boolean(row) && (row === above || isBelow(parentOf(row), above));
  const takes = (row) =>
    Boolean(dragged && row && "takes" in row.dataset && row.dataset.node !== dragged.dataset.parent && !isBelow(row, dragged));
  const mark = (target) => rows().forEach((row) => row.classList.toggle("is-target", row === target));

  tree.addEventListener("dragstart", (event) => {
    dragged = event.target.closest?.("tr[data-move]");
    if (!dragged) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", dragged.dataset.node);
    dragged.classList.add("is-dragged");
  });
  tree.addEventListener("dragover", (event) => {
    const row = event.target.closest("tr[data-node]");
    mark(takes(row) ? row : null);
    if (takes(row)) event.preventDefault();
  });
  tree.addEventListener("drop", (event) => {
    const row = event.target.closest("tr[data-node]");
    if (!takes(row)) return;
    event.preventDefault();
    ask(dragged, row);
  });
  tree.addEventListener("dragend", () => {
    dragged?.classList.remove("is-dragged");
    dragged = null;
    mark(null);
  });
})();
