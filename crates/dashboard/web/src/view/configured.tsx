// The configuration that runs, for whoever is logged in.

import { useEffect, useState } from "preact/hooks";
import { ask, words } from "../api";
import { generation } from "../state";
import { session } from "../session";
import { text } from "../text";
import { Card } from "./card";

export function Configured() {
  const [shown, setShown] = useState<{ toml?: string; failed?: string } | null>(null);
  const may = session.value?.loggedIn ?? false;
  // It may be another after each new greeting of the gateway.
  const wanted = generation.value;
  useEffect(() => {
    if (!may) return setShown(null);
    let current = true;
    ask<{ text: string }>("GET", "config").then(
      (answer) => current && setShown({ toml: answer.text }),
      (failure: unknown) => current && setShown({ failed: words(failure) }),
    );
    return () => {
      current = false;
    };
  }, [may, wanted]);
  return (
    <Card id="configuration" title={text.configuration} wide>
      {!may && <p class="meta">{text.configurationLogIn}</p>}
      {shown?.failed && <p class="note bad">{text.configurationFailed(shown.failed)}</p>}
      {shown?.toml !== undefined && (
        <details>
          <summary>{text.configurationShow}</summary>
          <pre tabIndex={0}>{shown.toml}</pre>
        </details>
      )}
      {may && <p class="meta">{text.configurationNote}</p>}
    </Card>
  );
}
