// Writing an output. What a person wishes is never shown as what is: the value
// on the page stays the one that the gateway has read back.

import { signal } from "@preact/signals";
import { ask, words } from "./api";
import type { ChannelModel } from "./state";
import { privileged } from "./session";
import { text } from "./text";
import type { Datum } from "./wire";

export interface Wish {
  value: Datum;
  /** The device has it, or so it says; what is read back must follow. */
  taken: boolean;
}

/** How long after the device took a value it may still read back another, milliseconds. */
const ECHO = 5000;

export class Wishes {
  /** What was asked for and isn't there yet. */
  readonly pending = signal<Wish | null>(null);
  readonly error = signal<string | null>(null);
  private late: ReturnType<typeof setTimeout> | undefined;

  constructor(private channel: ChannelModel) {
    channel.followers.add(() => this.seen());
  }

  async wish(value: Datum): Promise<void> {
    clearTimeout(this.late);
    const mine: Wish = { value, taken: false };
    this.pending.value = mine;
    this.error.value = null;
    try {
      await privileged(ask("POST", `channels/${this.channel.spec.channel}`, { value }));
    } catch (failure) {
      if (this.pending.value !== mine) return;
      this.pending.value = null;
      this.error.value = text.notSet(words(failure));
      return;
    }
    if (this.pending.value !== mine) return;
    mine.taken = true;
    this.seen();
    this.late = setTimeout(() => {
      if (this.pending.value !== mine) return;
      this.pending.value = null;
      this.error.value = text.readsBack;
    }, ECHO);
  }

  /** A reading came: is it the wish come true? */
  private seen(): void {
    const wish = this.pending.peek();
    const last = this.channel.last;
    if (!wish?.taken || !last || !same(last.value, wish.value)) return;
    clearTimeout(this.late);
    this.pending.value = null;
  }
}

/** A device may hold a number with less precision than a person types. */
function same(read: Datum | null, wished: Datum): boolean {
  if (typeof read === "number" && typeof wished === "number") return Math.abs(read - wished) <= 1e-3 * Math.max(1, Math.abs(wished));
  return read === wished;
}

const known = new WeakMap<ChannelModel, Wishes>();

export function wishesOf(channel: ChannelModel): Wishes {
  let wishes = known.get(channel);
  if (!wishes) {
    wishes = new Wishes(channel);
    known.set(channel, wishes);
  }
  return wishes;
}
