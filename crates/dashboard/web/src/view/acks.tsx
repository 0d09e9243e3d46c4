// One line for each broker below a chart: how much of it is acknowledged.

import { acknowledgedUntil } from "../acks";
import { count } from "../format";
import { marks, now, rates, status } from "../state";
import { language, text } from "../text";
import type { Traces } from "./trace";
import { at } from "./words";

/** So much is always on its way, milliseconds: a bar that trembles at its end tells nothing. */
const ON_ITS_WAY = 3000;

/** The SVG's width in its own units; it is stretched to the chart's. */
const WIDE = 1000;

export function Acks({ window }: Traces) {
  const known = status.value;
  if (!known || known.forwarders.length === 0) return null;
  void now.value;
  const { from, to } = window();
  return (
    <ul class="acks">
      {known.forwarders.map((forwarder) => {
        const until = acknowledgedUntil(forwarder, known, marks);
        const upToDate = until !== null && until > now.value - ON_ITS_WAY - (1000 * forwarder.in_flight) / Math.max(1, rates.stored.perSecond ?? 1);
        const all = upToDate || (until !== null && until >= to);
        const share = all ? 1 : until === null ? 0 : Math.min(1, Math.max(0, (until - from) / (to - from)));
        const waiting = text.pendingCount(count(language, forwarder.pending));
        const words = all ? text.allAcknowledged : until === null ? waiting : `${text.acknowledgedUntil(at(new Date(until).toISOString(), true))}, ${waiting}`;
        return (
          <li key={forwarder.name}>
            {until !== null && (
              <svg viewBox={`0 0 ${WIDE} 4`} preserveAspectRatio="none" aria-hidden="true">
                <rect class="pending" width={WIDE} height="4" />
                <rect class="acknowledged" width={share * WIDE} height="4" />
              </svg>
            )}
            <strong>{forwarder.name}</strong> {words}
          </li>
        );
      })}
    </ul>
  );
}
