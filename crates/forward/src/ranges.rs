use std::collections::BTreeMap;

use reading::Seq;

use crate::window::Span;

/// Parts of the log, apart from each other and in order.
#[derive(Debug, Default)]
pub(crate) struct Ranges(
    /// From the number before a part to the last in it.
    BTreeMap<u64, u64>,
);

impl Ranges {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a part, joined to those that it touches.
    pub(crate) fn insert(&mut self, span: Span) {
        let (mut after, mut through) = (span.after.0, span.through.0);
        if after >= through {
            return;
        }
        while let Some((&begin, &end)) = self.0.range(..=through).next_back() {
            if end < after {
                break;
            }
            self.0.remove(&begin);
            (after, through) = (after.min(begin), through.max(end));
        }
        self.0.insert(after, through);
    }

    pub(crate) fn contains(&self, seq: Seq) -> bool {
        self.0.range(..seq.0).next_back().is_some_and(|(_, end)| *end >= seq.0)
    }

    /// The end of the part that holds what follows a number, or the number.
    pub(crate) fn end_from(&self, after: Seq) -> Seq {
        let part = self.0.range(..=after.0).next_back();
        part.map_or(after, |(_, end)| after.max(Seq(*end)))
    }

    /// Forgets what lies at or before a number.
    pub(crate) fn forget(&mut self, through: Seq) {
        while let Some(part) = self.0.first_entry() {
            if *part.get() > through.0 {
                break;
            }
            part.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(parts in proptest::collection::vec((0..60_u64, 0..9_u64), 0..20), cut in 0..70_u64) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (after, length) in parts {
                ranges.insert(Span { after: Seq(after), through: Seq(after + length) });
                set.extend(after + 1..=after + length);
            }
            for n in 0..80 {
                prop_assert_eq!(ranges.contains(Seq(n)), set.contains(&n), "{}", n);
                let end = (n + 1..).take_while(|m| set.contains(m)).last().unwrap_or(n);
                prop_assert_eq!(ranges.end_from(Seq(n)), Seq(end), "{}", n);
            }
            let runs = set.iter().filter(|n| !set.contains(&(**n - 1))).count();
            prop_assert_eq!(ranges.len(), runs, "as few parts as there can be");
            ranges.forget(Seq(cut));
            for n in cut + 1..80 {
                prop_assert_eq!(ranges.contains(Seq(n)), set.contains(&n), "{}", n);
            }
        }
    }
}
