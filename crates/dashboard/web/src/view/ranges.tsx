// Which span of time is shown.

import { useState } from "preact/hooks";
import { gatewayNow } from "../state";
import { text } from "../text";
import { RANGES, type Range, type RangeName } from "./trace";

/** Less than this is nothing to look at, milliseconds. */
const SPAN_MIN = 10_000;

const before = (range: Range): RangeName => (range.kind === "live" ? range.name : range.before);

/** The range after a zoom: not into the future, and not to nothing. */
export function zoomed(range: Range, from: number, to: number): Range {
  const end = Math.min(to, gatewayNow());
  const start = Math.min(from, end - SPAN_MIN);
  return { kind: "fixed", from: start, to: end, before: before(range) };
}

/** What an `<input type="datetime-local">` holds: this browser's own time. */
function local(at: number): string {
  const date = new Date(at - new Date(at).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 16);
}

interface Props {
  range: Range;
  window: () => { from: number; to: number };
  pick: (range: Range) => void;
}

export function RangePicker({ range, window, pick }: Props) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <div class="ranges" role="group" aria-label={text.range}>
        {RANGES.map((name) => (
          <button type="button" key={name} aria-pressed={range.kind === "live" && range.name === name} onClick={() => pick({ kind: "live", name })}>
            {text.ranges[name]}
          </button>
        ))}
        <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
          {text.custom}
        </button>
        {range.kind === "fixed" && (
          <button type="button" class="fixed" aria-pressed="true" onClick={() => pick({ kind: "live", name: range.before })}>
            {text.backToLive}
          </button>
        )}
      </div>
      {open && <Custom range={range} window={window} pick={pick} />}
    </>
  );
}

function Custom({ range, window, pick }: Props) {
  const [shown] = useState(window);
  const [from, setFrom] = useState(local(shown.from));
  const [to, setTo] = useState(local(shown.to));
  const [start, end] = [new Date(from).getTime(), new Date(to).getTime()];
  const good = start < end && start < gatewayNow();
  const submit = (event: Event) => {
    event.preventDefault();
    if (good) pick(zoomed(range, start, end));
  };
  return (
    <form class="inline custom" onSubmit={submit}>
      <div class="field">
        <label for="from">{text.from}</label>
        <input id="from" type="datetime-local" required value={from} onInput={(event) => setFrom(event.currentTarget.value)} />
      </div>
      <div class="field">
        <label for="to">{text.to}</label>
        <input id="to" type="datetime-local" required value={to} onInput={(event) => setTo(event.currentTarget.value)} />
      </div>
      <button type="submit" disabled={!good}>
        {text.show}
      </button>
    </form>
  );
}
