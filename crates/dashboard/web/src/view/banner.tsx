import { useEffect, useState } from "preact/hooks";
import { retryNow } from "../feed";
import { clock, number } from "../format";
import { connection, gateway, gatewayClock, lostSince, retryAt, status } from "../state";
import { language, text } from "../text";

/** The first connection may take this long before the page says that there is none. */
const PATIENCE = 2500;

/** Says that what is shown is no longer live. */
export function Banner() {
  const [time, setTime] = useState(Date.now());
  const state = connection.value;
  useEffect(() => {
    if (state === "live") return;
    const timer = setInterval(() => setTime(Date.now()), 500);
    return () => clearInterval(timer);
  }, [state]);
  if (state === "live") return <Unset />;
  if (state === "connecting" && time - lostSince.value < PATIENCE) return null;
  // The moment is named on the gateway's clock, like every other time here.
  const since = clock(language, gatewayClock.at(lostSince.value), gatewayClock.at(time), true);
  const wait = Math.max(0, Math.ceil((retryAt.value - time) / 1000));
  return (
    <aside class="banner" aria-label={text.disconnected}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M2 8.5a15 15 0 0 1 20 0M5.5 12.5a10 10 0 0 1 13 0M9 16.3a5 5 0 0 1 6 0M12 20h.01M3 3l18 18" />
      </svg>
      <p role="alert">{gateway.value ? text.lostBanner(gateway.value, since) : text.neverBanner}</p>
      <span class="retry">{text.tryingIn(wait)}</span>
      <button type="button" onClick={retryNow}>
        {text.tryNow}
      </button>
    </aside>
  );
}

/** Says that times can't be trusted yet, and what waits for it. */
function Unset() {
  const known = status.value?.clock;
  if (!known || (known.set && !known.held)) return null;
  return (
    <aside class="banner warn" aria-label={text.clockUnset}>
      <svg viewBox="0 0 24 24" aria-hidden="true">
        <path d="M12 3a9 9 0 1 0 .01 0M12 7.5V12l3 2" />
      </svg>
      <p role="status">{known.held ? text.heldBanner(number(language, known.held, 0)) : text.unsetBanner}</p>
    </aside>
  );
}
