// The command palette and shortcuts of the console. Without script the field in the top bar leads to the same hits as a page.
(() => {
  const { Modal } = window.tabler;
  const byId = (id) => document.getElementById(id);
  const modal = (id) => byId(id) && Modal.getOrCreateInstance(byId(id));
  const hits = () => [...document.querySelectorAll("#palette-hits [data-hit]")];
  const field = () => byId("palette")?.querySelector("input");

  function openPalette() {
    if (document.querySelector(".modal.show")) return;
    modal("palette")?.show();
    // What was looked for last is looked for anew: rights and names may have changed.
    field()?.dispatchEvent(new CustomEvent("gatehouse:palette"));
    field()?.select();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-palette]");
    if (!link || event.ctrlKey || event.metaKey || !byId("palette")) return;
    event.preventDefault();
    openPalette();
  });
  // A hit that leads to this very page with another fragment or state leaves no palette behind.
  document.addEventListener("click", (event) => event.target.closest?.("[data-hit]") && modal("palette").hide());

  // --- in the palette: arrows walk through the hits, Enter in the field takes the first -----------
  function walk(event, step) {
    const all = hits();
    const at = all.indexOf(document.activeElement);
    const next = at + step;
    event.preventDefault();
    (next < 0 ? field() : all[Math.min(next, all.length - 1)])?.focus();
  }
  document.addEventListener("keydown", (event) => {
    if (!event.target.closest?.("#palette")) return;
    if (event.key === "ArrowDown") walk(event, 1);
    if (event.key === "ArrowUp") walk(event, -1);
    if (event.key === "Enter" && event.target === field() && hits().length) {
      event.preventDefault();
      hits()[0].click();
    }
  });

  // --- everywhere -------------------------------------------------------------------------------
  const typing = (element) => element.closest?.("input, textarea, select, [contenteditable]");
  let going = 0; // when "g" was pressed: the letter after it says where to

  function search() {
    const own = document.querySelector("[data-search], .gh-page input[type=search]");
    if (!own) return openPalette();
    own.focus();
    own.select();
  }

  const KEYS = { "/": search, "?": () => modal("shortcuts")?.show(), g: () => (going = Date.now()) };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      return openPalette();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || document.querySelector(".modal.show")) return;
    const link = going && Date.now() - going < 1500 && document.querySelector(`[data-go="${CSS.escape(event.key.toLowerCase())}"]`);
    going = 0;
    if (link) return link.click();
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
})();
