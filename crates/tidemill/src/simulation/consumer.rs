//! What a subscriber stores: each reading once, by `(gateway, epoch, seq)`, and
//! what must hold of it whatever happens to gateway and broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

/// The name of a record for ever: which start of the gateway, and its number.
pub(super) type Name = (usize, u64);

/// What a reading is made of, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    /// Microseconds since 1970.
    pub(super) time: i64,
    pub(super) channel: String,
    /// The devices number their readings: the value tells which it is.
    pub(super) value: u64,
}

/// A gap, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gap {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) count: u64,
    pub(super) channel: Option<String>,
    pub(super) reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Reading(Content),
    Gap(Gap),
}

#[derive(Default)]
pub(super) struct Consumer {
    /// The starts of the gateway, by their epochs.
    starts: HashMap<String, usize>,
    pub(super) readings: BTreeMap<Name, Content>,
    pub(super) gaps: BTreeMap<Name, Gap>,
    /// Under which name each value came.
    names: HashMap<u64, Name>,
    /// The last of each lane that came for the first time.
    lanes: [Option<Name>; 2],
    lanes_max: usize,
    /// The broker has refused these for now: what follows them came first.
    pub(super) late: BTreeSet<Name>,
    /// Messages, those that came twice included.
    pub(super) received: u64,
    pub(super) again: u64,
    /// What must not be.
    pub(super) wrong: Vec<String>,
}

impl Consumer {
    /// Of a forwarder with so many lanes.
    pub(super) fn new(lanes_max: usize) -> Consumer {
        Consumer { lanes_max, ..Consumer::default() }
    }

    /// The gateway starts under a name of its own.
    pub(super) fn start(&mut self, epoch: String, number: usize) {
        self.starts.insert(epoch, number);
    }

    /// What a message says, or `None` when it isn't of the log.
    pub(super) fn read(&mut self, topic: &str, payload: &[u8]) -> Vec<(Name, Record)> {
        let rest = topic.strip_prefix("tidemill/sim/").unwrap_or_default();
        if ["status", "info", ""].contains(&rest) {
            return Vec::new();
        }
        let parsed = match serde_json::from_slice::<Value>(payload) {
            Ok(Value::Array(pack)) if rest == "senml" => self.pack(&pack),
            Ok(gap) if rest == "gaps" => self.gap(&gap).map(|gap| vec![gap]),
            Ok(reading) => self.reading(rest, &reading).map(|reading| vec![reading]),
            Err(_) => None,
        };
        parsed.unwrap_or_else(|| {
            let text = String::from_utf8_lossy(payload);
            self.wrong.push(format!("{topic} has what no subscriber can read: {text}"));
            Vec::new()
        })
    }

    fn name(&self, of: &Value, seq: &Value) -> Option<Name> {
        Some((*self.starts.get(of["epoch"].as_str()?)?, seq["seq"].as_u64()?))
    }

    fn reading(&self, channel: &str, of: &Value) -> Option<(Name, Record)> {
        let content = Content {
            time: micros(&of["time"])?,
            channel: channel.to_owned(),
            value: whole(&of["value"])?,
        };
        Some((self.name(of, of)?, Record::Reading(content)))
    }

    fn gap(&self, of: &Value) -> Option<(Name, Record)> {
        let gap = Gap {
            from: micros(&of["from"])?,
            to: micros(&of["to"])?,
            count: of["count"].as_u64()?,
            channel: of["channel"].as_str().map(str::to_owned),
            reason: of["reason"].as_str()?.to_owned(),
        };
        Some((self.name(of, of)?, Record::Gap(gap)))
    }

    fn pack(&self, pack: &[Value]) -> Option<Vec<(Name, Record)>> {
        let first = pack.first()?;
        let mut all = Vec::with_capacity(pack.len());
        for of in pack {
            let content = Content {
                // Seconds as a decimal number: six digits after the point.
                time: (of["t"].as_f64()? * 1e6).round() as i64,
                channel: of["n"].as_str()?.to_owned(),
                value: whole(&of["v"])?,
            };
            all.push((self.name(first, of)?, Record::Reading(content)));
        }
        Some(all)
    }

    /// Stores what hasn't come before.
    pub(super) fn take(&mut self, records: Vec<(Name, Record)>) {
        self.received += 1;
        for (name, record) in records {
            match record {
                Record::Reading(content) => {
                    if let Some(known) = self.readings.get(&name) {
                        self.again += 1;
                        if *known != content {
                            self.wrong
                                .push(format!("{name:?} was {known:?} and is now {content:?}"));
                        }
                        continue;
                    }
                    if let Some(before) = self.names.insert(content.value, name) {
                        self.wrong.push(format!("{content:?} is both {before:?} and {name:?}"));
                    }
                    self.readings.insert(name, content);
                }
                Record::Gap(gap) => {
                    if let Some(known) = self.gaps.get(&name) {
                        self.again += 1;
                        if *known != gap {
                            self.wrong.push(format!("{name:?} was {known:?} and is now {gap:?}"));
                        }
                        continue;
                    }
                    self.gaps.insert(name, gap);
                }
            }
            self.ascends(name);
        }
    }

    /// What comes for the first time ascends in each lane.
    fn ascends(&mut self, name: Name) {
        if self.late.contains(&name) {
            return;
        }
        let lanes = &mut self.lanes[..self.lanes_max];
        let before = lanes.iter_mut().filter(|last| last.is_none_or(|last| last < name));
        match before.max_by_key(|last| **last) {
            Some(last) => *last = Some(name),
            None => {
                let lanes = &self.lanes;
                self.wrong.push(format!("{name:?} comes late, after {lanes:?}"));
            }
        }
    }

    pub(super) fn lanes(&self) -> usize {
        self.lanes_max
    }

    /// Whether this value has come.
    pub(super) fn has(&self, value: u64) -> bool {
        self.names.contains_key(&value)
    }
}

fn micros(of: &Value) -> Option<i64> {
    of.as_str()?.parse::<reading::Timestamp>().ok().map(|at| at.as_micros())
}

fn whole(of: &Value) -> Option<u64> {
    let value = of.as_f64()?;
    (value.fract() == 0.0 && value >= 0.0).then_some(value as u64)
}
