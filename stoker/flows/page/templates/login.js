// Signs the browser in. The address holds the token behind "#", which no browser sends to a server.
"use strict";
const [token, to] = location.hash.slice(1).split("&to=");
history.replaceState(null, "", location.pathname);

function say(state, what) {
  document.getElementById("state").textContent = state;
  document.getElementById("what").textContent = what;
}

// Only addresses of this origin. Behind "new URL" no tab, backslash or "//" in the text means another one.
function destination(text) {
  try {
    const url = new URL(decodeURIComponent(text || "/"), location.origin);
    return url.origin === location.origin ? url.href : "/";
  } catch {
    return "/";
  }
}

async function signIn() {
  if (!token) {
    say("Not signed in", "The address of this page holds no token.");
    return;
  }
  // Asked first without the browser's own login: a wrong token then opens no dialog for user and password.
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch("/signed-in", { headers, credentials: "omit", cache: "no-store" });
  if (!answer.ok) {
    say("Not signed in", "This link is no longer good: Stoker was started again since it was made.");
    return;
  }
  // The browser keeps user and password of this request for this scheme, host and port, and sends them from now on.
  const request = new XMLHttpRequest();
  request.open("GET", "/signed-in", true, "owner", token);
  request.onload = () => {
    if (request.status === 204) location.replace(destination(to));
    else say("Not signed in", `The server answered ${request.status}.`);
  };
  request.onerror = () => say("Not signed in", "Stoker does not answer; does it run?");
  request.send();
}

signIn().catch(() => say("Not signed in", "Stoker does not answer; does it run?"));
