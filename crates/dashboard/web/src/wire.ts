// The shapes that the gateway sends: the feed's frames and the API's answers.
// Nothing here is ours to change: crates/dashboard writes them.

export type Quality = "good" | "uncertain" | "bad";
export type Kind = "number" | "boolean" | "text";
export type Datum = number | boolean | string;

/** One reading; `value` is null when it is bad, and then there is a reason. */
export interface Reading {
  seq: number;
  /** The gateway's start, in history alone. */
  epoch?: string;
  time: string;
  value: Datum | null;
  quality: Quality;
  reason?: string | null;
}

export interface Channel {
  /** `device/name` */
  channel: string;
  device: string;
  name: string;
  kind: Kind;
  /** UCUM or SenML code; empty for a bare number. */
  unit?: string | null;
  label?: string | null;
  output?: boolean;
  last?: Reading | null;
}

export interface Device {
  name: string;
  /** What people call it. */
  label?: string | null;
  driver: string;
  state: "opening" | "ok" | "lost";
  since: string;
  error?: string | null;
  readings: number;
  bad: number;
}

export interface Forwarder {
  name: string;
  url: string;
  state: "connecting" | "online" | "offline";
  since: string;
  error?: string | null;
  in_flight: number;
  stored: number;
  acknowledged: number;
  pending: number;
  dropped: number;
}

/** One channel's part: read = stored + dropped. */
export interface ChannelLedger {
  channel: string;
  read: number;
  stored: number;
  dropped: number;
}

export interface StoreStatus {
  path: string;
  /** Bytes. */
  size: number;
  max_size: number;
  readings: number;
  oldest?: string | null;
  committed: number;
  queued: number;
  read: number;
  stored: number;
  dropped: number;
  bytes_written: number;
  /** Readings lost since the store was made, by cause. */
  losses?: { reason: string; count: number }[];
  /** What that means for the card, once the gateway can tell. */
  wear?: {
    bytes_per_reading: number;
    bytes_per_day: number;
    /** Bytes that the card may be written in all, and whether nobody said so. */
    endurance: number;
    endurance_assumed: boolean;
    life_years: number;
  } | null;
  error?: string | null;
}

export interface Status {
  gateway: string;
  version: string;
  epoch: string;
  time: string;
  started: string;
  uptime_s: number;
  clock: { synchronized: boolean; set: boolean; held?: number };
  devices: Device[];
  store: StoreStatus;
  forwarders: Forwarder[];
  /** By channel in the API's answer alone, not in the feed. */
  ledger: { read: number; stored: number; dropped: number; channels?: ChannelLedger[] };
}

export type Frame =
  | { type: "hello"; gateway: string; epoch: string; channels: Channel[] }
  | { type: "readings"; readings: (Reading & { channel: string })[] }
  | ({ type: "status" } & Status)
  | { type: "skipped"; count: number }
  | { type: "result"; id?: string; ok: boolean; error?: string }
  | { type: "error"; error: string };

/** A span of time in which readings are known to be missing. */
export interface Gap {
  from: string;
  to: string;
  count: number;
  channel?: string | null;
  reason: string;
}

export interface WireBucket {
  time: string;
  min: number | null;
  mean: number | null;
  max: number | null;
  count: number;
  bad: number;
}

export interface History {
  channel: string;
  readings?: Reading[];
  buckets?: WireBucket[];
  gaps?: Gap[];
  /** The newest of the span alone: there are more than one answer holds. */
  truncated?: boolean;
}
