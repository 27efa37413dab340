// The playground: one conversation, kept in this page alone. Calls go to the page's own origin, which makes them with the
// chosen key; leaving the stream (Stop, or closing the page) is what hanging up is to any other caller.
(() => {
  const root = document.getElementById("playground");
  if (!root) return;
  const part = (name) => root.querySelector(`[data-play-${name}]`);
  const log = part("log");
  const message = part("message");
  const OUTCOME_TRIES = 8;
  const OUTCOME_WAIT_MS = 250;
  let history = [];
  let running = null;

  // --- what is asked ----------------------------------------------------------------------------
  const number = (name) => (part(name).value === "" ? undefined : part(name).valueAsNumber);
  const settings = () => ({
    model: part("model").value,
    system: part("system").value.trim(),
    temperature: number("temperature"),
    maxTokens: number("max-tokens"),
    effort: part("effort").value,
    feature: part("feature")?.value ?? "",
    baseUrl: root.dataset.baseUrl,
  });

  function bodyOf({ model, system, temperature, maxTokens, effort }) {
    return JSON.stringify({
      model,
      messages: [...(system ? [{ role: "system", content: system }] : []), ...history],
      stream: true,
      stream_options: { include_usage: true },
      temperature,
      max_completion_tokens: maxTokens,
      reasoning_effort: effort || undefined,
    });
  }

  const ask = (asked, signal) =>
    fetch(root.dataset.callUrl, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-csrftoken": root.dataset.csrf,
        ...(asked.feature && { "x-gatehouse-feature": asked.feature }),
      },
      body: bodyOf(asked),
      redirect: "manual",
      signal,
    });

  // --- what is shown ----------------------------------------------------------------------------
  function turn(role, who) {
    const element = document.getElementById("play-turn").content.firstElementChild.cloneNode(true);
    element.dataset.role = role;
    element.querySelector(".gh-turn-who").textContent = who;
    log.querySelector("[data-play-hint]")?.remove();
    log.append(element);
    return element;
  }

  const inTurn = (element, name) => element.querySelector(`[data-turn-${name}]`);

  // Follows the answer down, unless the reader has scrolled up to read.
  function follow(change) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 48;
    change();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  function say(answer, delta) {
    follow(() => {
      if (delta.reasoning_content) {
        answer.querySelector(".gh-turn-thought").hidden = false;
        inTurn(answer, "thought").append(delta.reasoning_content);
      }
      if (delta.content) inTurn(answer, "text").append(delta.content);
      if (delta.refusal) inTurn(answer, "text").append(delta.refusal);
    });
  }

  class Refused extends Error {
    constructor(error) {
      super(error.message);
      this.error = error;
    }
  }

  function note(answer, error) {
    const box = document.createElement("div");
    box.className = "gh-note";
    box.dataset.tone = "bad";
    box.setAttribute("role", "alert");
    const words = document.createElement("div");
    words.append(error.message);
    const told = error.error?.gatehouse ?? {};
    // The sentence of a limit says itself whom to ask.
    if (told.ask && !error.message.toLowerCase().includes(told.ask.toLowerCase())) words.append(document.createElement("br"), `${told.ask[0].toUpperCase()}${told.ask.slice(1)}.`);
    if (told.code === "model_not_approved") {
      const link = document.createElement("a");
      link.href = root.dataset.askUrl;
      link.textContent = "Request it";
      words.append(" ", link);
    }
    if (error.signIn) {
      const link = document.createElement("a");
      link.href = root.dataset.signInUrl;
      link.textContent = "Sign in";
      words.append(" ", link);
    }
    box.append(words);
    follow(() => inTurn(answer, "note").prepend(box));
  }

  // The row is written before the last bytes of an answer go out; after a stop it comes a moment later.
  async function showOutcome(answer, callId) {
    if (!callId) return;
    const url = root.dataset.outcomeUrl.replace("00000000-0000-0000-0000-000000000000", callId);
    for (let tries = 0; tries < OUTCOME_TRIES; tries++) {
      const response = await fetch(url).catch(() => null);
      if (response?.status === 200) {
        const shown = document.createRange().createContextualFragment(await response.text());
        follow(() => inTurn(answer, "note").append(shown));
        return;
      }
      await new Promise((resume) => setTimeout(resume, OUTCOME_WAIT_MS * (tries + 1)));
    }
  }

  // --- one call ---------------------------------------------------------------------------------
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const said = line.startsWith("data:") ? line.slice(5).trim() : "";
        if (said && said !== "[DONE]") yield JSON.parse(said);
      }
    }
  }

  async function refusal(response) {
    if (response.type === "opaqueredirect") return Object.assign(new Error("You are signed out."), { signIn: true });
    const body = await response.json().catch(() => null);
    if (body?.error) return new Refused(body.error);
    if (response.status === 403) return new Error("This page is out of date, or you may no longer do this. Reload it and try again.");
    return new Error(response.status === 404 ? "This key is no longer yours to use. Reload the page." : `The gateway answered ${response.status}.`);
  }

  async function receive(answer, asked, call) {
    const response = await ask(asked, call.signal);
    answer.callId = response.headers.get("x-request-id");
    if (!response.ok) throw await refusal(response);
    for await (const event of events(response)) {
      if (event.error) throw new Refused(event.error);
      say(answer, event.choices?.[0]?.delta ?? {});
    }
  }

  function busy(is) {
    part("send").hidden = is;
    part("stop").hidden = !is;
    for (const name of ["key", "clear"]) part(name).disabled = is;
  }

  async function send(words) {
    const asked = settings();
    const call = (running = new AbortController());
    history.push({ role: "user", content: words });
    const question = turn("user", "You");
    inTurn(question, "text").textContent = words;
    const answer = turn("assistant", asked.model);
    answer.setAttribute("aria-busy", "true");
    log.scrollTop = log.scrollHeight;
    busy(true);
    let failure = null;
    try {
      await receive(answer, asked, call);
    } catch (error) {
      failure = error;
    }
    answer.removeAttribute("aria-busy");
    if (running === call) {
      running = null;
      busy(false);
      keep(answer, words, failure && failure.name !== "AbortError");
    }
    if (failure?.name === "AbortError" && !answer.callId) inTurn(answer, "text").textContent = "Stopped before it answered; nothing is charged.";
    if (failure && failure.name !== "AbortError") note(answer, failure instanceof TypeError ? new Error("The connection to the gateway broke off.") : failure);
    writeCode();
    await showOutcome(answer, answer.callId);
  }

  // What was answered, as far as it came, is part of the conversation; a question without any answer is asked again.
  function keep(answer, words, failed) {
    const said = inTurn(answer, "text").textContent;
    if (said && !failed) {
      history.push({ role: "assistant", content: said });
      return;
    }
    history.pop();
    if (!message.value) message.value = words;
  }

  function clear() {
    history = [];
    log.replaceChildren();
    message.focus();
    writeCode();
  }

  // --- code -------------------------------------------------------------------------------------
  function writeCode() {
    const draft = message.value.trim();
    // Up to the last question: a call that ended with the answer to it would ask for more of that answer.
    const asked = history.slice(0, history.findLastIndex(({ role }) => role === "user") + 1);
    const messages = draft ? [...history, { role: "user", content: draft }] : asked;
    const call = { ...settings(), messages: messages.length ? messages : [{ role: "user", content: "Hello" }] };
    document.getElementById("play-snippet").textContent = window.gatehouseCode[part("language").value](call);
  }

  // --- wiring -----------------------------------------------------------------------------------
  function showModel() {
    const option = part("model").selectedOptions[0];
    part("hint-of-model").textContent = option?.dataset.hint ?? "";
    part("now").textContent = option?.value ?? "";
  }

  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = message.value.trim();
    const wrong = [part("temperature"), part("max-tokens")].find((field) => !field.checkValidity());
    if (wrong) part("settings").open = true;
    if (running || !words || (wrong && !wrong.reportValidity())) return;
    message.value = "";
    send(words);
  });
  message.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    part("form").requestSubmit();
  });
  part("stop").addEventListener("click", () => {
    running?.abort();
    message.focus();
  });
  part("clear").addEventListener("click", clear);
  // Another key may call other models: the page is made anew for it.
  part("key").addEventListener("change", (event) => location.assign(`?${new URLSearchParams({ key: event.target.value, model: part("model").value })}`));
  part("model").addEventListener("change", showModel);
  root.addEventListener("input", writeCode);
  root.addEventListener("change", writeCode);
  if (matchMedia("(max-width: 1199.98px)").matches) part("settings").open = false;
  showModel();
  writeCode();
})();
