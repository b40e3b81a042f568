// Takes the owner's token from the link's fragment (browsers send no fragment to any server), asks the server whether it
// is right, and keeps it where Prefect's pages look for it: in the local storage of this origin. No cookie: other ports
// of this host would receive it.
"use strict";

const say = (text) => { document.getElementById("say").textContent = text; };

async function login() {
  const [token, ...options] = location.hash.slice(1).split("&");
  history.replaceState(null, "", location.pathname); // the token stays neither in the address bar nor in the history
  const wanted = new URLSearchParams(options.join("&")).get("to") ?? "/";
  const again = "Run `stoker open prefect` on the machine where Stoker runs.";
  if (!/^[A-Za-z0-9_-]{20,200}$/.test(token)) {
    say(`This page needs a link with a token. ${again}`);
    return;
  }
  const password = btoa(`owner:${token}`);
  const answer = await fetch("/api/admin/version", { headers: { Authorization: `Basic ${password}` }, cache: "no-store" });
  if (!answer.ok) {
    say(`The token of this link is not valid any more: each start of Stoker makes a new one. ${again}`);
    return;
  }
  localStorage.setItem("prefect-password", password);
  let target = new URL("/", location.origin);
  try {
    const path = new URL(wanted, location.origin);
    if (wanted.startsWith("/") && path.origin === location.origin) target = path;
  } catch { /* no address: the start page */ }
  location.replace(target.href);
}

login().catch(() => say("The server does not answer. Is `stoker up` running?"));
