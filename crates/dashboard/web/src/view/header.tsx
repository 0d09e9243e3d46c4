import { clock, span } from "../format";
import { route } from "../route";
import { asking, logOut, session } from "../session";
import { connection, gateway, now, status } from "../state";
import { language, text } from "../text";
import { Pill, type Tone } from "./words";

export function Header() {
  return (
    <header>
      <div class="bar">
        <a class="brand" href="#/">
          <Mark />
          <span class="names">
            <span class="gateway">{gateway.value || "Tidemill"}</span>
          </span>
        </a>
        {session.value?.look !== false && (
          <>
            <nav aria-label={text.views}>
              <Tab view="overview" href="#/" name={text.overview} />
              <Tab view="system" href="#/system" name={text.system} />
            </nav>
            <div class="vitals">
              <Clock />
              <AccountButton />
              <Connection />
            </div>
          </>
        )}
      </div>
    </header>
  );
}

function Tab({ view, href, name }: { view: string; href: string; name: string }) {
  const current = route.value.view === view;
  return (
    <a class="tab" href={href} aria-current={current ? "page" : undefined}>
      {name}
    </a>
  );
}

/** The gateway's clock, not the browser's: that they differ is worth seeing. */
function Clock() {
  const known = status.value;
  if (!known) return null;
  const uptime = now.value - Date.parse(known.started);
  return (
    <span class="clock" title={text.gatewayClock}>
      <span class="uptime">{text.up(span(uptime))}</span>
      <time>{clock(language, now.value, now.value, true)}</time>
      {!known.clock.set && <span class="unset"> {text.clockUnset}</span>}
    </span>
  );
}

function AccountButton() {
  const known = session.value;
  // Who comes through the control socket or a proxy of their own needn't log in.
  if (!known || (known.write && !known.loggedIn)) return null;
  const act = () => {
    if (known.loggedIn) void logOut();
    else asking.value = true;
  };
  return (
    <button type="button" class="account" onClick={act}>
      {known.loggedIn ? text.logOut : text.logIn}
    </button>
  );
}

function Connection() {
  const tones: Record<string, [Tone, string]> = {
    live: ["good", text.live],
    connecting: ["warn", text.connecting],
    lost: ["bad", text.disconnected],
  };
  const [tone, word] = tones[connection.value]!;
  return (
    <span class="state" role="status" aria-label={text.connectionOf(word)}>
      <Pill tone={tone}>{word}</Pill>
    </span>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 64 64" aria-hidden="true">
      <rect width="64" height="64" rx="14" />
      <g>
        <circle cx="32" cy="27" r="13" />
        <path d="M32 14v26M19 27h26M22.8 17.8l18.4 18.4M41.2 17.8L22.8 36.2" />
        <path d="M10 47c4-4 8-4 11 0s7 4 11 0 8-4 11 0 7 4 11 0" />
      </g>
    </svg>
  );
}
