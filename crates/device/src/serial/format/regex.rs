//! Whatever a regular expression finds in a line.

use ::regex::{CaptureLocations, Regex};
use reading::Kind;

use super::{NotUnderstood, Place, Scalar, value};
use crate::Batch;

/// Takes the wanted groups out of a line.
#[derive(Clone)]
pub(crate) struct Pattern {
    regex: Regex,
    /// The number of each channel's group, by channel.
    groups: Vec<(usize, Kind)>,
    /// Used again for each line.
    found: CaptureLocations,
}

impl Pattern {
    /// A group for each channel, in order.
    ///
    /// # Errors
    /// When the expression can't be read, with `None`, or has no such group,
    /// with the place of the channel.
    pub(crate) fn new(
        expression: &str,
        groups: &[(Place, Kind)],
    ) -> Result<Pattern, (Option<usize>, String)> {
        let regex = Regex::new(expression).map_err(|error| (None, error.to_string()))?;
        let mut numbers = Vec::new();
        for (channel, (group, kind)) in groups.iter().enumerate() {
            let mut names = regex.capture_names();
            let number = match group {
                Place::Number(number) => Some(*number).filter(|n| *n < regex.captures_len()),
                Place::Name(wanted) => names.position(|name| name == Some(wanted)),
            };
            let number = number.ok_or_else(|| (Some(channel), missing(&regex, group)))?;
            numbers.push((number, *kind));
        }
        let found = regex.capture_locations();
        Ok(Pattern { regex, groups: numbers, found })
    }

    pub(super) fn parse(&mut self, line: &str, batch: &mut Batch) -> Result<(), NotUnderstood> {
        self.regex.captures_read(&mut self.found, line).ok_or(NotUnderstood)?;
        for (channel, (group, kind)) in self.groups.iter().enumerate() {
            // An optional group that isn't there says nothing.
            if let Some((start, end)) = self.found.get(*group) {
                batch.push(channel, value(*kind, Scalar::Text(&line[start..end])));
            }
        }
        Ok(())
    }
}

fn missing(regex: &Regex, group: &Place) -> String {
    let names: Vec<&str> = regex.capture_names().flatten().collect();
    let count = regex.captures_len() - 1;
    match group {
        Place::Number(number) => format!("the pattern has no group {number}; it has {count}"),
        Place::Name(name) if names.is_empty() => {
            format!("the pattern has no group `{name}`; name one: (?<{name}>…)")
        }
        Place::Name(name) => {
            format!("the pattern has no group `{name}`; it has {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use reading::{Datum, Value};

    use super::*;

    #[test]
    fn groups_by_name_and_number() {
        let groups = [(Place::Name("t".into()), Kind::Number), (Place::Number(2), Kind::Text)];
        let mut pattern = Pattern::new(r"T=(?<t>[-0-9.]+)C(?: (\w+))?", &groups).unwrap();
        let mut batch = Batch::default();
        pattern.parse("sensor T=21.5C dry!", &mut batch).unwrap();
        pattern.parse("sensor T=-3C", &mut batch).unwrap();
        let found: Vec<_> = batch.samples.into_iter().map(|s| (s.channel, s.value)).collect();
        let good = |datum| Value::Good(datum);
        assert_eq!(
            found,
            [
                (0, good(Datum::Number(21.5))),
                (1, good(Datum::from("dry"))),
                (0, good(Datum::Number(-3.0))),
            ]
        );
        assert_eq!(pattern.parse("nothing", &mut Batch::default()), Err(NotUnderstood));
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error_of_its_channel() {
        let group = |group| Pattern::new("(?<t>.)", &[(group, Kind::Number)]).err().unwrap();
        assert_eq!(
            group(Place::Name("h".into())),
            (Some(0), "the pattern has no group `h`; it has t".into())
        );
        assert_eq!(
            group(Place::Number(2)),
            (Some(0), "the pattern has no group 2; it has 1".into())
        );
        assert_eq!(Pattern::new("(", &[]).err().unwrap().0, None);
    }
}
