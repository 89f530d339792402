// What people read of an answer, whoever gave it: never a proxy's page, and one sentence where the
// network breaks.

export const LOST = "Etude does not answer at the moment. Please try again in a few seconds.";

/** Say whether it was Etude that answered; `header` gives a header of the answer by its name. */
export function isOurs(header) {
  // Each answer of ours has a number; what a proxy says in our place has none, and is often HTML.
  return Boolean(header("X-Request-Id"));
}

/** Say in one sentence why something did not work, in Etude's words where it answered with one. */
export function reason(
  { status, header, text },
  { failed = "That did not work", again = "Please try again in a few minutes." } = {},
) {
  const isSentence = (header("Content-Type") ?? "").startsWith("text/plain");
  if (isOurs(header) && isSentence && text.trim()) return text.trim();
  return isOurs(header)
    ? `${failed} (error ${status}). Please try again; if it happens again, tell your administrator.`
    : `${failed}: a server between your browser and Etude answered in its place (${status}). ${again} ` +
        `If it happens again, tell your administrator this number.`;
}

/** Ask; return the header and the text of Etude's answer, or null once it is told what went wrong. */
export async function ask(address, options, tell, lost = LOST) {
  let answer;
  let text;
  try {
    answer = await fetch(address, options);
    text = await answer.text();
  } catch {
    tell(lost);
    return null;
  }
  const header = (name) => answer.headers.get(name);
  if (answer.ok && isOurs(header)) return { header, text };
  tell(reason({ status: answer.status, header, text }));
  return null;
}

/** Return a page as it is now; null: Etude does not answer, or nobody is signed in any more. */
export async function fresh(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected || !isOurs((name) => answer.headers.get(name))) return null;
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return null;
  }
}

/** Say whether Etude answers that nobody is signed in any more; where it does not answer, nobody knows. */
export async function isSignedOut(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    const isDoor = answer.redirected && new URL(answer.url).pathname === "/sign-in";
    return isOurs((name) => answer.headers.get(name)) && (answer.status === 401 || isDoor);
  } catch {
    return false;
  }
}
