import { useEffect } from "preact/hooks";
import { route } from "../route";
import { connection, gateway, skipped } from "../state";
import { count } from "../format";
import { language, text } from "../text";
import { Banner } from "./banner";
import { ChannelView } from "./channel";
import { Header } from "./header";
import { Overview } from "./overview";
import { System } from "./system";

export function App() {
  const { value: shown } = route;
  useEffect(() => {
    document.title = gateway.value ? `${gateway.value} · Tidemill` : "Tidemill";
  }, [gateway.value]);
  return (
    <div class={`app ${connection.value}`}>
      <a class="skip" href="#main" onClick={toMain}>
        {text.skipToContent}
      </a>
      <Header />
      <Banner />
      <main id="main" tabIndex={-1}>
        {skipped.value > 0 && <p class="note">{text.skippedNote(count(language, skipped.value))}</p>}
        {shown.view === "overview" && <Overview />}
        {shown.view === "system" && <System />}
        {shown.view === "channel" && <ChannelView key={shown.channel} name={shown.channel} />}
      </main>
    </div>
  );
}

/** Without changing what stands behind the `#`, which names the view. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
