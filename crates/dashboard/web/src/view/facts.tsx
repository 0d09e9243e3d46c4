// What stands below a channel's chart: figures, changes, holes.

import { clock, number, span } from "../format";
import { summary, type Hole } from "../series";
import { now } from "../state";
import { segments } from "../steps";
import { language, text } from "../text";
import { count } from "../format";
import type { Trace } from "./trace";
import { channelTitle, valueText, why } from "./words";

/** How many changes or holes are listed: the newest. */
const LISTED = 12;

interface Props {
  trace: Trace;
  /** Whether it has to be said of which channel this is. */
  named: boolean;
  window: () => { from: number; to: number };
}

/** Lowest, mean and highest of what is shown. */
export function Numbers({ trace: { channel, data }, named, window }: Props) {
  // Once a second is often enough for figures over minutes.
  void now.value;
  const bounds = summary(data.current.buckets, window().from);
  const show = (value: number | undefined) => (value === undefined ? "–" : valueText(channel, value));
  return (
    <div class="numbers">
      {named && <p class="meta">{channelTitle(channel)}</p>}
      <dl>
        <div>
          <dt>{text.low}</dt>
          <dd>{show(bounds?.min)}</dd>
        </div>
        <div>
          <dt>{text.mean}</dt>
          <dd>{show(bounds?.mean)}</dd>
        </div>
        <div>
          <dt>{text.high}</dt>
          <dd>{show(bounds?.max)}</dd>
        </div>
      </dl>
    </div>
  );
}

/** What a boolean or a text was, and for how long. */
export function Changes({ trace: { channel, data }, named, window }: Props) {
  const { from, to } = window();
  void now.value;
  const bars = segments(data.current.steps, to, to - from);
  const known = bars.reduce((sum, bar) => sum + (bar.value === null ? 0 : bar.lasted), 0);
  const on = bars.reduce((sum, bar) => sum + (bar.value === true ? bar.lasted * (bar.step.share ?? 1) : 0), 0);
  const percent = (share: number) => `${number(language, 100 * share, share > 0 && share < 0.1 ? 1 : 0)} %`;
  const id = `changes-${channel.spec.channel.replace("/", "-")}`;
  return (
    <section class="card" aria-labelledby={id}>
      <h2 id={id}>
        {text.lastChanges}
        {named && `: ${channelTitle(channel)}`}
      </h2>
      {channel.spec.kind === "boolean" && known > 0 && (
        <p class="meta">{text.onFor(percent(on / known))}</p>
      )}
      {bars.length === 0 ? (
        <p class="meta">{text.chartNone}</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">{text.time}</th>
              <th scope="col">{text.value}</th>
              <th scope="col" class="right">
                {text.lasted}
              </th>
            </tr>
          </thead>
          <tbody>
            {bars
              .slice(-LISTED)
              .reverse()
              .map((bar) => (
                <tr key={bar.step.time}>
                  <td>{clock(language, bar.step.time, now.value, true)}</td>
                  <td>{bar.value === null ? why(bar.step.reason) || text.noValue : bar.step.share !== undefined ? text.onFor(percent(bar.step.share)) : valueText(channel, bar.value)}</td>
                  <td class="right">{span(bar.lasted)}</td>
                </tr>
              ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

/** What is missing, and why. */
export function Holes({ holes }: { holes: Hole[] }) {
  if (holes.length === 0) return null;
  return (
    <section class="card" aria-labelledby="holes">
      <h2 id="holes">{text.holes}</h2>
      <ul class="holes">
        {holes
          .slice(-LISTED)
          .reverse()
          .map((hole) => (
            <li key={`${hole.from} ${hole.reason}`}>
              {text.holeFromTo(clock(language, hole.from, now.value, true), clock(language, hole.to, now.value, true), why(hole.reason))}
              {hole.count ? ` (${text.missing(count(language, hole.count))})` : ""}
            </li>
          ))}
      </ul>
    </section>
  );
}
