// A titled box, and facts in it.

import type { ComponentChildren } from "preact";

export function Card({ id, title, wide, children }: { id: string; title: string; wide?: boolean; children: ComponentChildren }) {
  return (
    <section class={`card ${wide ? "wide" : ""}`} aria-labelledby={id}>
      <h2 id={id}>{title}</h2>
      {children}
    </section>
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
