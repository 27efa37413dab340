// Passkeys: shown only where the browser can use them, and what went wrong is said in words.
(() => {
  // A passkey belongs to a name: browsers refuse it on an address such as 127.0.0.1, and without HTTPS except on localhost.
  const isAddress = /^[\d.]+$|:|^\[/.test(location.hostname);
  const usable = Boolean(window.PublicKeyCredential) && window.isSecureContext && !isAddress;
  for (const part of document.querySelectorAll("[data-passkey]")) part.hidden = !usable;
  for (const part of document.querySelectorAll("[data-no-passkey]")) part.hidden = usable;

  const WORDS = {
    NotAllowedError: "The passkey was not used: it was cancelled, or took too long.",
    InvalidStateError: "This device is registered already.",
    SecurityError: "Passkeys do not work at this address. Open the console by its name.",
  };

  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const text = WORDS[event.detail.exception?.name] || "The passkey could not be used. Try again, or sign in another way.";
    document.dispatchEvent(new CustomEvent("gatehouse:toast", { detail: { text, tone: "bad" } }));
    for (const button of document.querySelectorAll(".is-busy")) button.classList.remove("is-busy");
  });
})();
