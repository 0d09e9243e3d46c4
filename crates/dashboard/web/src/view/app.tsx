import { useEffect } from "preact/hooks";
import { route, type Route } from "../route";
import { session } from "../session";
import { connection, gateway, skipped } from "../state";
import { count } from "../format";
import { language, text } from "../text";
import { Banner } from "./banner";
import { ChannelView } from "./channel";
import { Gate, LogIn, SetUp } from "./forms";
import { Header } from "./header";
import { Overview } from "./overview";
import { System } from "./system";

export function App() {
  const { value: shown } = route;
  // Nothing may be seen before logging in.
  const closed = session.value?.look === false;
  useEffect(() => {
    document.title = gateway.value ? `${gateway.value} · Tidemill` : "Tidemill";
  }, [gateway.value]);
  return (
    <div class={`app ${connection.value}`}>
      <a class="skip" href="#main" onClick={toMain}>
        {text.skipToContent}
      </a>
      <Header />
      {!closed && <Banner />}
      <main id="main" tabIndex={-1}>
        {skipped.value > 0 && <p class="note">{text.skippedNote(count(language, skipped.value))}</p>}
        {shown.view === "setup" ? <SetUp token={shown.token} /> : closed ? <Gate /> : <View route={shown} />}
      </main>
      <LogIn />
    </div>
  );
}

function View({ route }: { route: Route }) {
  switch (route.view) {
    case "system":
      return <System />;
    case "channel":
      return <ChannelView key={route.channel} name={route.channel} others={route.others} />;
    default:
      return <Overview />;
  }
}

/** Without changing what stands behind the `#`, which names the view. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
