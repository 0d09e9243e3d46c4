// Where every reading went: in total, by cause, by channel.

import { useEffect, useState } from "preact/hooks";
import { ask } from "../api";
import { count } from "../format";
import { connection } from "../state";
import { language, text } from "../text";
import type { Status } from "../wire";
import { Card, Facts } from "./card";
import { Pill, why } from "./words";

/** How often the ledger of each channel is asked for while it is looked at: the feed doesn't bring it. */
const EVERY = 5000;

const n = (value: number): string => count(language, value);

/** What should be equal, and whether it is. */
function Balance({ difference }: { difference: number }) {
  return difference === 0 ? <Pill tone="good">{text.balances}</Pill> : <Pill tone="bad">{text.off_by(n(difference))}</Pill>;
}

/** The ledger with that of each channel, of one instant; null until it is known. */
function useChannels(): Status["ledger"] | null {
  const [known, setKnown] = useState<Status["ledger"] | null>(null);
  useEffect(() => {
    const look = () => {
      if (connection.peek() !== "live" || document.hidden) return;
      // One that fails is asked again soon; the rest of the page says what is wrong.
      ask<Status>("GET", "status").then(({ ledger }) => setKnown(ledger), () => {});
    };
    look();
    const timer = setInterval(look, EVERY);
    return () => clearInterval(timer);
  }, []);
  return known;
}

export function Ledger({ status: { ledger, forwarders, store } }: { status: Status }) {
  const losses = store.losses ?? [];
  return (
    <Card id="ledger" title={text.ledger} wide>
      <div class="sums">
        <div>
          <h3>{text.fromDevices}</h3>
          <Facts
            facts={[
              [text.read, n(ledger.read)],
              [text.stored, n(ledger.stored)],
              [text.dropped, n(ledger.dropped)],
              ["", <Balance difference={ledger.read - ledger.stored - ledger.dropped} />],
            ]}
          />
        </div>
        {forwarders.map((one) => (
          <div key={one.name}>
            <h3>{one.name}</h3>
            <Facts
              facts={[
                [text.stored, n(one.stored)],
                [text.acknowledged, n(one.acknowledged)],
                [text.pending, n(one.pending)],
                [text.dropped, n(one.dropped)],
                ["", <Balance difference={one.stored - one.acknowledged - one.pending - one.dropped} />],
              ]}
            />
          </div>
        ))}
        <div>
          <h3>{text.lostByCause}</h3>
          {losses.length > 0 ? <Facts facts={losses.map(({ reason, count }) => [why(reason), n(count)])} /> : <p class="meta">{text.nothingLost}</p>}
        </div>
      </div>
      <p class="meta">{text.ledgerNote}</p>
      <ByChannel />
    </Card>
  );
}

function ByChannel() {
  const ledger = useChannels();
  const channels = ledger?.channels ?? [];
  if (!ledger || channels.length === 0) return null;
  const ofSeveral = ledger.dropped - channels.reduce((sum, one) => sum + one.dropped, 0);
  return (
    <details>
      <summary>{text.byChannel}</summary>
      <table>
        <thead>
          <tr>
            <th scope="col">{text.channel}</th>
            {[text.read, text.stored, text.dropped].map((head) => (
              <th key={head} scope="col" class="right">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {channels.map((one) => (
            <tr key={one.channel}>
              <th scope="row">
                <a href={`#/${one.channel}`}>{one.channel}</a>
              </th>
              <td class="right">{n(one.read)}</td>
              <td class="right">{n(one.stored)}</td>
              <td class="right">{n(one.dropped)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {ofSeveral > 0 && <p class="meta">{text.lostOfSeveral(n(ofSeveral))}</p>}
    </details>
  );
}

/** One channel's part, in a line. */
export function OfChannel({ name }: { name: string }) {
  const of = useChannels()?.channels?.find((one) => one.channel === name);
  return of ? <p class="meta">{text.ledgerOf(n(of.read), n(of.stored), n(of.dropped))}</p> : null;
}
