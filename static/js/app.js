// Behaviour of every console page. All hooks are data attributes, so that partials swapped in later need no wiring.
(() => {
  const { Modal, Offcanvas, Toast } = window.tabler;
  const byId = (id) => document.getElementById(id);
  const on = (type, selector, act) =>
    document.addEventListener(type, (event) => {
      const element = event.target.closest?.(selector);
      if (element) act(element, event);
    });

  // A form that comes back with errors is gone on with at the first of them.
  const FAULTY = ':is(input, select, textarea)[aria-invalid="true"]';
  const focusFault = (root) => root?.querySelector(FAULTY)?.focus();
  focusFault(byId("content"));

  // What a form was asked for may stand far below it, on a phone.
  const answer = document.querySelector("[data-answer]");
  if (answer && answer.getBoundingClientRect().top > window.innerHeight / 2) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    answer.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  }

  // --- toasts -----------------------------------------------------------------------------------
  const ICONS = { ok: "circle-check", bad: "alert-triangle", warn: "alert-triangle", info: "info-circle" };

  function toast(text, tone = "info") {
    const place = byId("toasts");
    const element = byId("toast-template")?.content.firstElementChild.cloneNode(true);
    if (!place || !element) return;
    element.dataset.tone = tone;
    element.querySelector("[data-toast-text]").textContent = text;
    const use = element.querySelector("use");
    use.setAttribute("href", use.getAttribute("href").replace(/#.*/, `#${ICONS[tone] || ICONS.info}`));
    place.append(element);
    showToasts(place);
  }

  // What went wrong, or offers a way on, stays until it is read; the rest leaves by itself.
  function showToasts(root) {
    for (const element of root.querySelectorAll(".toast:not([data-shown])")) {
      element.dataset.shown = "";
      const stays = element.dataset.tone === "bad" || element.querySelector("a") !== null;
      new Toast(element, { autohide: !stays, delay: 6000 }).show();
      element.addEventListener("hidden.bs.toast", () => element.remove());
    }
  }
  document.addEventListener("gatehouse:toast", (event) => toast(event.detail.text ?? event.detail.value, event.detail.tone));

  // --- copy -------------------------------------------------------------------------------------
  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "visually-hidden" });
    (document.querySelector(".modal.show") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copying was refused");
  }

  // data-copy="#id" copies that element's text or value; data-copy-text="…" copies the words themselves.
  on("click", "[data-copy], [data-copy-text]", async (button) => {
    const source = button.dataset.copy && document.querySelector(button.dataset.copy);
    const text = source ? (source.value ?? source.textContent.trim()) : button.dataset.copyText;
    try {
      await copy(text);
    } catch {
      toast("The browser did not allow copying. Select the text and copy it by hand.", "bad");
      return;
    }
    noteSaved(text);
    const label = button.querySelector("[data-copy-label]");
    button.classList.add("is-copied");
    if (label) label.textContent = "Copied";
    setTimeout(() => {
      button.classList.remove("is-copied");
      if (label) label.textContent = "Copy";
    }, 2000);
  });

  // --- a secret shown once ----------------------------------------------------------------------
  // [data-shown-once] holds it. Until it was copied, alone or within something, or its reader says that it is kept, leaving asks
  // (browsers ask only after a click or a key in this document).
  const shownOnce = () => [...document.querySelectorAll("[data-shown-once]:not([data-saved])")];
  const noteSaved = (text) =>
    shownOnce().forEach((secret) => text.includes(secret.textContent.trim()) && (secret.dataset.saved = ""));
  document.addEventListener("copy", () => noteSaved(String(getSelection())));
  on("click", "[data-says-saved]", () => shownOnce().forEach((secret) => (secret.dataset.saved = "")));
  addEventListener("beforeunload", (event) => {
    if (!shownOnce().length) return;
    event.preventDefault();
    setTimeout(rest); // reached by who stays
  });
  document.addEventListener("hide.bs.modal", (event) => {
    if (!shownOnce().some((secret) => event.target.contains(secret))) return;
    if (!confirm("This is shown once, and you have not copied it. Close it all the same?")) event.preventDefault();
  });

  // --- theme ------------------------------------------------------------------------------------
  function showTheme() {
    for (const button of document.querySelectorAll("[data-theme-choose]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoose === window.gatehouseTheme.chosen()));
    }
  }
  on("click", "[data-theme-choose]", (button) => window.gatehouseTheme.choose(button.dataset.themeChoose));
  document.addEventListener("gatehouse:theme", showTheme);

  // --- rows and forms ---------------------------------------------------------------------------
  // A click anywhere in the row follows its main link; the link itself serves keyboard and screen reader.
  on("click", "tr[data-row]", (row, event) => {
    if (event.target.closest("a, button, input, select, label, summary") || String(getSelection())) return;
    row.querySelector("a[data-row-link]")?.click();
  });
  on("change", "form[data-autosubmit]", (form) => form.requestSubmit());
  on("submit", "form", (form, event) => {
    if (event.defaultPrevented || form.method === "get") return;
    for (const button of form.querySelectorAll("button[type=submit]")) button.classList.add("is-busy");
  });
  const rest = () => document.querySelectorAll(".is-busy").forEach((button) => button.classList.remove("is-busy"));
  addEventListener("pageshow", rest);

  // data-remove="selector" takes the part of the page around the button away; a click beside an open menu closes it.
  on("click", "[data-remove]", (button) => button.closest(button.dataset.remove)?.remove());
  document.addEventListener("click", (event) =>
    document.querySelectorAll("details.gh-menu[open]").forEach((menu) => menu.contains(event.target) || (menu.open = false)),
  );

  // --- rows that are ticked ---------------------------------------------------------------------
  // In <form data-selection>: what can be done with the chosen rows appears once one is ticked.
  function countTicked(form) {
    const ticks = [...form.querySelectorAll("tbody input[type=checkbox]")];
    const count = ticks.filter((tick) => tick.checked).length;
    const all = form.querySelector("[data-select-all]");
    form.querySelector("[data-selected]")?.classList.toggle("is-shown", count > 0);
    form.querySelectorAll("[data-selected-count]").forEach((place) => (place.textContent = count));
    if (all) Object.assign(all, { checked: count > 0 && count === ticks.length, indeterminate: count > 0 && count < ticks.length });
  }
  on("change", "form[data-selection] input[type=checkbox]", (tick) => {
    const form = tick.closest("form");
    if (tick.matches("[data-select-all]")) form.querySelectorAll("tbody input[type=checkbox]").forEach((row) => (row.checked = tick.checked));
    countTicked(form);
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-selection]").forEach(countTicked));

  // --- a name to be typed before something is deleted -------------------------------------------
  // Without script the button is enabled and the server compares; it does so in any case.
  const confirmButton = (input) => input.closest("form")?.querySelector("[data-confirm-button]");
  const compare = (input) => confirmButton(input) && (confirmButton(input).disabled = input.value.trim() !== input.dataset.confirm);
  on("input", "[data-confirm]", compare);

  // --- chart or table ---------------------------------------------------------------------------
  on("click", "[data-chart-table]", (button) => {
    const card = button.closest("[data-chart-card]");
    const table = card.classList.toggle("shows-table");
    button.setAttribute("aria-pressed", String(table));
    drawCharts();
  });

  // The chart library is large: only a page that has a chart, or gets one, loads it.
  const loadScript = (url) => new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject }));
  });
  let chartScripts;
  async function drawCharts() {
    if (chartScripts) return void document.dispatchEvent(new CustomEvent("gatehouse:charts"));
    if (!document.querySelector("[data-chart]")) return;
    const urls = document.body.dataset.chartScripts.split(" ");
    chartScripts = loadScript(urls[0]).then(() => loadScript(urls[1]));
  }

  // --- dialog and drawer ------------------------------------------------------------------------
  const isDrawer = (state) => Boolean(state?.drawer);
  let leaving = false; // true while the browser goes back to the page behind the drawer

  // The partial says how large it is, and whether a click beside it may close it (never while a secret is shown once).
  function openDialog() {
    const { dialogSize = "", dialogStatic } = byId("dialog-body").querySelector(".modal-content")?.dataset ?? {};
    byId("dialog-body").className = `modal-dialog modal-dialog-centered modal-dialog-scrollable ${dialogSize}`;
    const dialog = Modal.getOrCreateInstance(byId("dialog"));
    dialog._config.backdrop = dialogStatic === undefined ? true : "static";
    dialog._config.keyboard = dialogStatic === undefined;
    byId("dialog-body").querySelectorAll("[data-confirm]").forEach(compare);
    dialog.show();
  }
  const closeDialog = () => byId("dialog")?.classList.contains("show") && Modal.getOrCreateInstance(byId("dialog")).hide();
  const closeDrawer = () => byId("drawer")?.classList.contains("show") && Offcanvas.getOrCreateInstance(byId("drawer")).hide();

  // htmx stamps an entry that lacks its own mark, which would wipe ours: so the entry carries both.
  function openDrawer(url) {
    history[isDrawer(history.state) ? "replaceState" : "pushState"]({ drawer: true, htmx: true }, "", url);
    Offcanvas.getOrCreateInstance(byId("drawer")).show();
  }

  // What asks again and again by itself, [data-quiet], does so only while somebody looks.
  const isQuiet = (ctx) => Boolean(ctx?.sourceElement?.matches("[data-quiet]"));
  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden && isQuiet(event.detail.ctx)) event.preventDefault();
  });

  // --- lists that follow ------------------------------------------------------------------------
  // In [data-live] rows that were not there are marked; whoever stands on a row goes on standing there.
  const linksIn = (list) => [...list.querySelectorAll("a[data-row-link]")];
  document.addEventListener("htmx:before:swap", () => {
    for (const list of document.querySelectorAll("[data-live]")) {
      list.shown = new Set(linksIn(list).map((link) => link.href));
      list.focused = list.contains(document.activeElement) ? document.activeElement.href : "";
    }
  });
  function markNew() {
    for (const list of document.querySelectorAll("[data-live]")) {
      for (const link of linksIn(list)) {
        if (list.shown && !list.shown.has(link.href)) link.closest("tr").classList.add("is-new");
        if (list.focused === link.href) link.focus({ preventScroll: true });
      }
    }
  }

  document.addEventListener("htmx:after:swap", (event) => {
    markNew();
    const { ctx } = event.detail;
    const target = typeof ctx.target === "string" ? document.querySelector(ctx.target) : ctx.target;
    if (target?.id === "dialog-body") openDialog();
    focusFault(target);
    if (target?.id === "drawer-body" && ctx.request.method === "GET") openDrawer(ctx.request.action);
    if (byId("toasts")) showToasts(byId("toasts"));
    showTheme();
    drawCharts();
  });
  document.addEventListener("gatehouse:close-dialog", closeDialog);
  // A link with data-cancel closes the dialog it stands in; on a page of its own it simply leads back.
  on("click", "#dialog a[data-cancel]", (link, event) => {
    event.preventDefault();
    closeDialog();
  });
  document.addEventListener("shown.bs.modal", (event) => event.target.querySelector(`${FAULTY}, [autofocus]`)?.focus());
  document.addEventListener("hidden.bs.modal", (event) => event.target.id === "dialog" && byId("dialog-body").replaceChildren());

  document.addEventListener("hidden.bs.offcanvas", (event) => {
    if (event.target.id !== "drawer") return;
    byId("drawer-body").replaceChildren();
    if (isDrawer(history.state)) {
      leaving = true;
      history.back();
    }
  });
  addEventListener("popstate", (event) => {
    if (isDrawer(event.state)) {
      leaving = true;
      location.reload();
    } else if (byId("drawer")?.classList.contains("show")) {
      leaving = true;
      closeDrawer();
    }
  });
  // The page behind the drawer is still there: it needs no second request.
  document.addEventListener("htmx:before:history:restore", (event) => {
    if (leaving) event.preventDefault();
    leaving = false;
  });

  // --- htmx failures ----------------------------------------------------------------------------
  // htmx 4 swaps error answers too. A form sent back with its errors (400, 422) belongs in the page; an error page does not.
  const SHOWN = new Set([400, 409, 422]);
  const WORDS = {
    401: "You are signed out. Reload the page and sign in again.",
    403: "You do not have the permission for this.",
    404: "This no longer exists, or you have no access to it.",
    429: "Too many requests. Wait a moment and try again.",
  };
  document.addEventListener("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    const { status } = ctx.response;
    if (status < 400 || SHOWN.has(status)) return;
    event.preventDefault();
    if (isQuiet(ctx)) {
      if (status >= 500 || status === 429) return; // it asks again
      ctx.sourceElement.remove();
    }
    toast(WORDS[status] || "Something went wrong on our side. Nothing was changed; try again.", "bad");
  });
  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx && !isQuiet(event.detail.ctx)) toast("The server cannot be reached. Check the connection and try again.", "bad");
  });
  document.addEventListener("htmx:finally:request", rest);

  // --- one test call with a fresh key -----------------------------------------------------------
  // <button data-test-call="#box" data-url data-key data-model>: streams the answer of one small call into the box.
  async function* deltas(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
      }
    }
  }

  const ask = ({ url, key, model }) =>
    fetch(url, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      credentials: "omit",
      body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Say hello in one sentence." }] }),
    });

  async function testCall(button, box) {
    const started = performance.now();
    const text = box.querySelector("[data-test-text]");
    const note = box.querySelector("[data-test-note]");
    box.hidden = false;
    box.dataset.tone = "info";
    text.textContent = "";
    note.textContent = "Calling…";
    const response = await ask(button.dataset);
    if (!response.ok) {
      const body = await response.json().catch(() => null);
      throw new Error(body?.error?.message || `The gateway answered ${response.status}.`);
    }
    for await (const event of deltas(response)) {
      if (event.error) throw new Error(event.error.message || "The answer broke off.");
      text.textContent += event.choices?.[0]?.delta?.content ?? "";
    }
    box.dataset.tone = "ok";
    note.textContent = `${response.status} · ${((performance.now() - started) / 1000).toFixed(2)} s · ${button.dataset.model}`;
  }

  on("click", "[data-test-call]", async (button) => {
    const box = document.querySelector(button.dataset.testCall);
    button.disabled = true;
    try {
      await testCall(button, box);
    } catch (error) {
      box.dataset.tone = "bad";
      box.querySelector("[data-test-note]").textContent = error.message;
    }
    button.disabled = false;
  });

  showTheme();
  drawCharts();
  document.querySelectorAll("[data-confirm]").forEach(compare);
  if (byId("toasts")) showToasts(byId("toasts"));
})();
