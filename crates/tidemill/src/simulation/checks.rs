//! What is promised, as it is asked of each step and at the end.

use std::collections::HashMap;

use store::Status;

use super::consumer::Gap;
use super::world::{World, Wrong};

/// Records that wait for the disk, at most: the store's own limit and a batch.
const QUEUED_MAX: u64 = 65_536 + 4_096;

fn hold(holds: bool, what: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(what()) }
}

pub(super) fn at_any_time(world: &World, status: &Status) -> Result<(), Wrong> {
    hold(status.read == status.stored + status.dropped, || format!("read: {status:?}"))?;
    hold(status.queued <= QUEUED_MAX, || format!("{} wait in memory", status.queued))?;
    hold(status.durable <= status.committed, || format!("durable: {status:?}"))?;
    for of in &status.forwarders {
        let sum = of.acknowledged + of.pending + of.dropped;
        hold(of.stored == sum, || format!("the ledger of a forwarder: {of:?}"))?;
    }
    let given = world.given.account().readings.len() as u64;
    hold(status.read <= given, || format!("{given} were given: {status:?}"))?;
    for (broker, of) in world.brokers.iter().zip(&status.forwarders) {
        let mut state = broker.state();
        let known = state.acknowledged.len() as u64;
        hold(of.acknowledged <= known, || {
            format!("{} acknowledged, and the broker has sent {known} PUBACKs", of.acknowledged)
        })?;
        let wrong = state.wrong.pop().or_else(|| state.consumer.wrong.pop());
        hold(wrong.is_none(), || wrong.clone().unwrap_or_default())?;
    }
    Ok(())
}

/// Within a life, nothing is taken back.
pub(super) fn since(before: &Status, after: &Status) -> Result<(), Wrong> {
    let grows = before.read <= after.read
        && before.stored <= after.stored
        && before.dropped <= after.dropped
        && before.committed <= after.committed
        && before.durable <= after.durable;
    hold(grows, || format!("{before:?} became {after:?}"))?;
    for (before, after) in before.forwarders.iter().zip(&after.forwarders) {
        let grows = before.acknowledged <= after.acknowledged && before.dropped <= after.dropped;
        hold(grows, || format!("{before:?} became {after:?}"))?;
    }
    Ok(())
}

/// What a life leaves to the next.
pub(super) fn over_an_end(power: bool, before: &Status, after: &Status) -> Result<(), Wrong> {
    let kept = if power { before.durable } else { before.committed };
    hold(after.committed >= kept, || {
        format!("{kept} was the last number, {} is now", after.committed)
    })?;
    let stored = power || after.stored >= before.stored;
    hold(stored, || format!("{} were stored, {} are now", before.stored, after.stored))
}

/// Whatever was given is at the consumers, or told, or lost within what an end
/// may lose.
pub(super) fn at_the_end(world: &World, status: &Status) -> Result<(), Wrong> {
    let account = world.given.account();
    let subscriptions = world.plan.subscriptions();
    for (n, broker) in world.brokers.iter().enumerate() {
        let state = broker.state();
        let matches = |channel: &str| {
            let channel = channel.parse().ok();
            let mut patterns = subscriptions[n].channels.iter();
            channel.is_some_and(|channel| patterns.any(|pattern| pattern.matches(&channel)))
        };
        let mut untold: HashMap<&str, u64> = HashMap::new();
        let mut missing = 0;
        for (value, reading) in account.readings.iter().enumerate() {
            if !matches(&reading.channel) || state.consumer.has(value as u64) {
                continue;
            }
            let told = |gap: &Gap| {
                let at = reading.at.as_micros();
                (gap.from..=gap.to).contains(&at)
                    && gap.channel.as_ref().is_none_or(|channel| *channel == reading.channel)
            };
            let told = state.consumer.gaps.values().any(told);
            let end = world.lives.get(reading.life);
            let safe = end.is_none_or(|past| past.safe.is_some_and(|safe| reading.when < safe));
            if !safe {
                continue;
            } else if told {
                missing += 1;
            } else {
                *untold.entry(&reading.channel).or_default() += 1;
            }
        }
        hold(untold.is_empty(), || format!("forwarder {n}: lost silently: {untold:?}"))?;
        let counted: u64 = state.consumer.gaps.values().map(|gap| gap.count).sum();
        hold(missing <= counted, || {
            format!("forwarder {n}: {missing} are missing, and the gaps tell of {counted}")
        })?;
        let of = &status.forwarders[n];
        hold(of.acknowledged + of.dropped == of.stored, || format!("it still owes: {of:?}"))?;
    }
    Ok(())
}
